"""Every command that a document shows is one that there is: its options parse, and its tests are collected."""

from __future__ import annotations

import argparse
import copy
import re
import shlex

import pytest

from commands.__main__ import SUBCOMMANDS
from commands.__main__ import main as visionmark
from selftests.house.shown import PAGES, Shown, commands_of, shown_in
from selftests.inside import ROOT, run_here

SHOWN = {
    page.relative_to(ROOT).as_posix(): shown_in(page.relative_to(ROOT).as_posix(), page.read_text()) for page in PAGES
}
ALL = list(dict.fromkeys(shown for page in SHOWN.values() for shown in page))


class Parsed(Exception):
    """Raised in place of what a subcommand would do: what it made of the words, and what it leaves to pytest."""

    def __init__(self, rest):
        self.rest = rest


@pytest.fixture
def parses(monkeypatch, pytestconfig):
    """A function that fails on a command whose words are wrong, and runs none of it."""
    parse_args = argparse.ArgumentParser.parse_args
    parse_known_args = argparse.ArgumentParser.parse_known_args

    def strict(self, args=None, namespace=None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
            parse_args(self, args, namespace)
        raise Parsed([])

    def leaving(self, args=None, namespace=None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_args)
            rest = parse_known_args(self, args, namespace)[1]
        raise Parsed(rest)

    def pytest_takes(words):
        words = [word for word in words if word not in ("-h", "--help")]  # ends everything
        known, unknown = pytestconfig._parser.parse_known_and_unknown_args(words, copy.copy(pytestconfig.option))
        assert not unknown, f"no option of pytest: {unknown}"
        for place in known.file_or_dir:
            assert (ROOT / place.partition("::")[0]).exists(), place

    def check(shown):
        if shown.program == "pytest":
            return pytest_takes(shown.words)
        assert shown.words[0] in SUBCOMMANDS, shown.words[0]
        if len(shown.words) == 1:  # it is spoken of
            return None
        with monkeypatch.context() as patch, pytest.raises(Parsed) as parsed:
            patch.setattr(argparse.ArgumentParser, "parse_args", strict)
            patch.setattr(argparse.ArgumentParser, "parse_known_args", leaving)
            visionmark(shown.words)
        return pytest_takes(parsed.value.rest)

    return check


@pytest.mark.parametrize("page", sorted(SHOWN))
def test_every_command_that_is_shown_parses(parses, page, capsys):
    for shown in SHOWN[page]:
        try:
            parses(shown)
        except (SystemExit, pytest.UsageError, AssertionError) as error:
            pytest.fail(f"{shown}: {error} {capsys.readouterr().err}")


def test_commands_are_found_at_all():
    """A page without commands would pass for ever."""
    for page, least in {"README.md": 20, "docs/comparing.md": 3, "docs/training.md": 4, "docs/ci.md": 6}.items():
        assert len(SHOWN[page]) >= least, page
    assert {shown.words[0] for shown in ALL if shown.program == "visionmark"} >= {"best", "compare", "train"}


@pytest.mark.parametrize(
    "words",
    ["pytest --modle resnet50", "pytest tests_perf/test_nothing.py", "pytest --benchmark-max-time=long"]
    + ["visionmark compere a.json b.json", "visionmark compare a.json", "visionmark compare a.json b.json --bond 3%"]
    + ["visionmark best --model resnet50 --precison fp32", "visionmark pipeline compile --colour red"]
    + ["visionmark train --model resnet50 --data images --precision fp7", "make bench ARGS='--modle resnet50'"],
)
def test_a_wrong_command_does_not_parse(parses, words):
    """The sabotage: commands as a document might show them by mistake."""
    ((program, rest),) = commands_of(words)
    with pytest.raises((SystemExit, pytest.UsageError, AssertionError)):
        parses(Shown("here", program, rest))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("    pytest -k a      what it does", [("pytest", "-k", "a")]),
        ('    OUTPUT_DIR=out pytest tests_perf -k "a and b"', [("pytest", "tests_perf", "-k", "a and b")]),
        ("    docker run -v a:b \\\n      image:cpu pytest --data DIR", [("pytest", "--data", "images")]),
        ("see `pytest`, `visionmark compare\nA B`", [("visionmark", "compare", "A", "B")]),
        ("    a | visionmark manifests - && pytest CHECKOUT/a", [("visionmark", "manifests", "-"), ("pytest", "a")]),
        ("    pytest --model NAME[,NAME] [--data DIR] [ARGS]", [("pytest", "--model", "resnet50", "--data", "images")]),
        ('    make bench ARGS="--model NAME"', [("pytest", "--model", "resnet50")]),
        ("```yaml\njobs: {a: {steps: [{run: pytest -q}]}}\n```", [("pytest", "-q")]),
        ("```yaml\na:\n  script:\n    - pytest -q || x=$?\n    - exit\n```", [("pytest", "-q")]),
        ("```python\nrun('pytest -q')\n```", []),
    ],
)  # fmt: skip
def test_commands_are_read_as_a_shell_reads_them(text, found):
    assert [(one.program, *one.words) for one in shown_in("page", text)] == found


# A device, a server, labelled images and weights are not on every machine.
_ELSEWHERE = re.compile(
    r"cuda|xpu|ipu|tensorrt|host:|localhost|best|pretrained|rev=|--(data|weights|calibration-data|labels|profile|config)\b"
)


def collected():
    """What this machine can collect, each once, without the files of a run that measures."""
    found = {}
    for one in ALL:
        if one.program == "pytest" and not any(map(_ELSEWHERE.search, one.words)):
            words = shlex.split(re.sub(r"(^| )--(benchmark-json|junitxml) \S+", "", shlex.join(one.words)))
            found.setdefault(tuple(words), one)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("words", collected(), ids=shlex.join)
def test_what_is_shown_selects_tests(words):
    """Its values are right too, and `-k` means something."""
    outcome = run_here(*words, "--collect-only", "-q")
    assert outcome.code == 0, outcome.text[-2000:]
