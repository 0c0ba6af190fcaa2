"""The table of contents."""

pytest_plugins = [
    "fixtures.asking",
    "fixtures.options",
    "fixtures.profile_rows",
    "fixtures.cases",
    "fixtures.progress",
    "fixtures.telemetry",
    "fixtures.recording",
    "fixtures.runners",
    "fixtures.scenarios",
    "fixtures.streaming",
    "fixtures.journal",
    "fixtures.labelled",
    "fixtures.serving_options",
    "fixtures.serving",
    "fixtures.serving_load",
    "fixtures.summary",
    "fixtures.result_files",
    "fixtures.profile_files",
]
