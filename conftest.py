"""The table of contents."""

pytest_plugins = [
    "fixtures.options",
    "fixtures.options.table",
    "fixtures.profiles.rows",
    "fixtures.cases",
    "fixtures.progress",
    "fixtures.telemetry",
    "fixtures.recording",
    "fixtures.runners",
    "fixtures.scenarios",
    "fixtures.streaming",
    "fixtures.journal",
    "fixtures.labelled",
    "fixtures.serving",
    "fixtures.serving.options",
    "fixtures.serving.load",
    "fixtures.summary",
    "fixtures.result_files",
    "fixtures.profiles.files",
]
