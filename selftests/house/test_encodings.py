"""Text files are UTF-8 by name: the locale of a machine changes no file, and no name that it lacks ends a run."""

import ast

import pytest
from PIL import Image

from selftests.inside import ROOT, TINY, run_command

PACKAGES = ("models", "harness", "fixtures", "commands", "benchmarks", "tests_perf", "tests_accuracy", "tests_serial")
SOURCES = [ROOT / "conftest.py", *(path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py")))]
# These open no text, or are our own methods of that name.
OTHERS = {"Image", "os", "tarfile", "zipfile", "self", "webbrowser"}


def in_the_locales_encoding(source):
    """The lines that open a text file without naming its encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        of = getattr(getattr(node.func, "value", None), "id", None)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        if name in ("read_text", "write_text"):
            yield node.lineno
        elif name in ("open", "fdopen", "NamedTemporaryFile") and of not in (OTHERS if name == "open" else ()):
            mode_at = (
                0
                if isinstance(node.func, ast.Attribute) and name == "open"
                else 1
                if name != "NamedTemporaryFile"
                else 0
            )
            modes = [word.value for word in node.keywords if word.arg == "mode"] or node.args[mode_at : mode_at + 1]
            default = "w+b" if name == "NamedTemporaryFile" else "r"
            mode = ast.literal_eval(modes[0]) if modes and isinstance(modes[0], ast.Constant) else default
            if "b" not in mode:
                yield node.lineno


def test_every_text_file_is_opened_as_utf_8():
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in in_the_locales_encoding(path.read_text(encoding="utf-8"))
    ]
    assert not found, f"without encoding=: {', '.join(found)}"


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("path.read_text()", 1),
        ("path.write_text(text)", 1),
        ("open(path)", 1),
        ("path.open('a', newline='')", 1),
        ("os.fdopen(descriptor, 'w')", 1),
        ("path.read_text(encoding='utf-8')", 0),
        ("path.open('rb')", 0),
        ("open(path, mode='wb')", 0),
        ("Image.open(path)", 0),
    ],
)
def test_the_check_tells_text_from_bytes(line, count):
    assert len(list(in_the_locales_encoding(line))) == count


@pytest.mark.slow
def test_a_locale_without_utf_8_loses_no_name(tmp_path):
    """The name of the data is in the header, which the log in --output-dir holds as well."""
    data = tmp_path / "größe 写真"
    (data / "n01440764").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(data / "n01440764" / "a.JPEG")
    outcome = run_command(
        "tests_perf/test_latency.py", f"--data={data}", f"--output-dir={tmp_path}/out",
        "--model", TINY, "--weights=random", "--engine=eager", "--precision=fp32", "--batch-size=1",
        LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="utf-8:surrogateescape",
    )  # fmt: skip
    assert outcome.code == 0, outcome.text
    assert "UnicodeEncodeError" not in outcome.text
    assert "größe 写真" in (tmp_path / "out" / "output.log").read_text(encoding="utf-8")
