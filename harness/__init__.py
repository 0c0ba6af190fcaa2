"""How an image model is measured: cases, devices, engines, clocks, evidence. Plain Python; never imports pytest."""
