"""visionmark's plugin, for a checkout that is not installed. An installed one has it by its entry point."""

pytest_plugins = ["fixtures.plugin"]
