"""`visionmark run`: a run of pytest, spread over the machines of a cluster."""
