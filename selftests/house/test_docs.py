"""What the documents say is what there is."""

import io
import re
import subprocess
from contextlib import redirect_stdout, suppress

import pytest

from commands.__main__ import SUBCOMMANDS
from commands.__main__ import main as visionmark
from fixtures.options.table import OPTIONS
from selftests.inside import ROOT, files_of_checkout, run_here

README = (ROOT / "README.md").read_text()
OPTIONS_PAGE = (ROOT / "docs" / "options.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_option_and_variable_is_on_the_page_of_options():
    for option in OPTIONS.values():
        for name in option.names:
            assert f"`{name}`" in OPTIONS_PAGE, name
        if option.variable and not option.variable.endswith("_TEST_DURATION"):
            assert f"`{option.variable}`" in OPTIONS_PAGE, option.variable


OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]+")
# Subcommands whose help is that of each kind.
KINDS = {"pipeline": ("compile", "run")}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Every option of pytest, its plugins and the subcommands, from their help."""
    names = {name for option in OPTIONS.values() for name in option.names}
    names |= {f"--no-{option.names[0].removeprefix('--')}" for option in OPTIONS.values() if option.negated}
    text = run_here("--help", cache=tmp_path_factory.mktemp("cache")).text
    for name in SUBCOMMANDS:
        for kind in KINDS.get(name, ("",)):
            out = io.StringIO()
            with redirect_stdout(out), suppress(SystemExit):
                visionmark([name, *filter(None, [kind]), "--help"])
            text += out.getvalue()
    return names | set(OPTION.findall(text))


@pytest.mark.parametrize("page", [README, OPTIONS_PAGE], ids=["README", "options"])
def test_no_option_is_named_that_is_not_there(page, known):
    assert set(OPTION.findall(page)) <= known


def test_an_option_that_nothing_has_is_found_out(known):
    """The sabotage: known are the options of each kind, and no more."""
    assert {"--model", "--lf", "--benchmark-json", "--bound", "--data-claim"} <= known
    assert not {"--modle", "--warmup"} & known


TARGETS = {target for path in DOCUMENTS for target in re.findall(r"(?:`|^    )make ([a-z-]+)", path.read_text(), re.M)}


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_make_target_that_is_named_exists(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_linked_file_exists():
    for path in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def test_make_help_lists_every_target():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "bench", "test", "check", "clean", "bench-harness"):
        assert re.search(rf"^{target}\s+\w", listed, re.M), target


def test_no_document_speaks_of_one_machine():
    files = files_of_checkout()
    assert {ROOT / "Makefile", ROOT / "README.md", ROOT / "fixtures" / "cases.py", ROOT / ".ci" / "run"} <= set(files)
    for path in files:
        text = path.read_text(errors="replace")
        assert not re.search(r"(?<![\w.])/(work|root|home/\w+)/", text), path


def test_the_documents_are_looked_at_in_an_archive_without_git_too(monkeypatch):
    """A tarball has no .git, and neither has a container."""
    monkeypatch.setenv("PATH", "/none")
    test_no_document_speaks_of_one_machine()
