"""Work in pieces that are handed to workers as they come free, on this machine or on a cluster; any of them may die."""
