"""Owns what is run beside pytest: the command `visionmark`, one module or package a subcommand. Must not know pytest."""
