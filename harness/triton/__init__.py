"""A Triton Inference Server: finding one, starting it, what it serves, and who asks it. Plain Python."""
