"""The sides of a comparison in turns: what a side is, the process that it has, and the revision that it runs."""
