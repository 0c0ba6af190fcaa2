"""The table of contents."""

pytest_plugins = [
    "fixtures.asking",
    "fixtures.options",
    "fixtures.cases",
    "fixtures.progress",
    "fixtures.recording",
    "fixtures.runners",
    "fixtures.labelled",
    "fixtures.serving_options",
    "fixtures.serving",
    "fixtures.summary",
]
