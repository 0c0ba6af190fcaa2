"""Imports go one way: models <- harness <- fixtures <- tests."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "models": {"models"},
    "harness": {"models", "harness"},
    "fixtures": {"models", "harness", "fixtures"},
    "tests_perf": {"harness", "models"},
    "tests_accuracy": {"harness", "models"},
    "tests_serial": {"harness", "models"},
}
ROOMS = {"models", "harness", "fixtures", "tests_perf", "tests_accuracy", "tests_serial", "selftests"}
ONLY_FIXTURES_KNOW = {"pytest", "_pytest", "pytest_benchmark"}
DEVICE_WORDS = {"cuda", "xpu", "hip", "mps"}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert imported(path) & ROOMS <= MAY_IMPORT[room], path


@pytest.mark.parametrize("room", ["models", "harness"])
def test_only_fixtures_know_pytest(room):
    for path in (ROOT / room).rglob("*.py"):
        assert not imported(path) & ONLY_FIXTURES_KNOW, path


def test_torch_is_told_of_an_accelerator_only_in_its_device_file():
    """Whether there is a CUDA device at all is asked by the evidence, which records its TF32 switches."""
    for path in (ROOT / "harness").rglob("*.py"):
        if path.parent.name == "devices":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("torch.xpu.", "torch.cuda.")):
                assert ast.unparse(node.func) == "torch.cuda.is_available", f"{path}:{node.lineno}"


def test_the_root_conftest_is_a_table_of_contents():
    statements = ast.parse((ROOT / "conftest.py").read_text()).body
    assert [type(statement).__name__ for statement in statements] == ["Expr", "Assign"]
