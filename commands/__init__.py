"""Owns the command `visionmark`, run beside pytest, with a module for each subcommand. Must not know pytest."""
