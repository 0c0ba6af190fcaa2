"""Owns what is run beside pytest: the command `visionmark`, a module for each subcommand. Must not know pytest."""
