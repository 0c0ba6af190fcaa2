"""What the harness itself costs: `make bench-harness`. Printed; nothing is asserted."""
