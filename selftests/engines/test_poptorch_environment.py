"""What a run on an IPU imports is no newer than the environment of Graphcore's SDK: torch 2.0.1, and an older Python.

The names that torch 2.0.1 lacks are a table, made by asking both versions for the names of their public modules.
"""

import ast
import json
import re
import sys

import pytest

from fixtures.plugin import pytest_plugins
from selftests.inside import ROOT

# The wheels of the SDK that are known are for Python 3.8; all else is held to the oldest Python of the project.
WHEEL = (3, 8)
PROJECT = tuple(
    map(int, re.search(r'requires-python = ">=(\d+)\.(\d+)"', (ROOT / "pyproject.toml").read_text()).groups())
)
TABLE = json.loads((ROOT / "selftests" / "engines" / "torch_newer_names.json").read_text())
NEWER = {f"{place}.{name}" for place, names in TABLE["newer"].items() for name in names}
ROOTS = ("conftest", "fixtures.plugin", *pytest_plugins, "harness.devices.ipu", "harness.engines.poptorch")
OWN = ("harness.devices.ipu", "harness.engines.poptorch")
# These are imported with the others, and no IPU runs what is in their functions.
OTHERS = re.compile(
    r"harness\.devices\.(cpu|cuda|xpu)$|harness\.engines\.(?!poptorch)\w+(\.|$)(?!runner$|layout$|profiler$)"
    r"|harness\.measure\.training\."
)


def file_of(name):
    base = ROOT.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def run_on_import(tree):
    """Every node that is run on import: all but the bodies of functions, and what is for types alone."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            waiting += [*defaults, *getattr(node, "decorator_list", [])]
        elif isinstance(node, ast.AnnAssign):
            waiting += filter(None, [node.value])
        else:
            waiting += ast.iter_child_nodes(node)


def imported_by(nodes):
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def imported():
    """The tree of every module of the checkout that a run on an IPU imports, by name."""
    found, waiting = {}, list(ROOTS)
    while waiting:
        parts = waiting.pop().split(".")
        for name in (".".join(parts[: end + 1]) for end in range(len(parts))):
            path = file_of(name)
            if path is not None and name not in found:
                found[name] = ast.parse(path.read_text(encoding="utf-8"))
                waiting += imported_by(run_on_import(found[name]))
    return found


MODULES = imported()


def newer_names(nodes):
    """What of torch is named in these nodes that torch 2.0.1 lacks."""
    nodes = list(nodes)
    attributes = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)}
    return sorted((attributes | set(imported_by(nodes))) & NEWER)


def test_what_a_run_on_an_ipu_imports_is_found():
    assert {"harness.engines.poptorch.program", "harness.devices.xpu", "models.build", "fixtures.cases"} <= set(MODULES)
    assert len(MODULES) > 150 and {"torch.xpu", "torch.compiler", "torch.export"} <= NEWER


def test_no_import_needs_a_newer_torch():
    found = {name: newer for name, tree in MODULES.items() if (newer := newer_names(run_on_import(tree)))}
    assert found == {}, "torch 2.0.1 has none of these, and the module cannot be imported beside it"


def test_no_function_that_an_ipu_runs_needs_a_newer_torch():
    ours = {name: tree for name, tree in MODULES.items() if not OTHERS.match(name)}
    assert {"harness.engines.poptorch.program", "harness.engines.torch.runner", "harness.proof.preparation"} <= set(
        ours
    )
    found = {name: newer for name, tree in ours.items() if (newer := newer_names(ast.walk(tree)))}
    assert found == {}, "torch 2.0.1 has none of these: ask for them by getattr, or in a file of another engine"


def newer_syntax(name):
    """None, or why the oldest Python that has to take a module does not."""
    try:
        version = WHEEL if name.startswith(OWN) else PROJECT
        ast.parse(file_of(name).read_text(encoding="utf-8"), feature_version=version)
    except SyntaxError as error:
        return str(error)


def test_the_syntax_is_that_of_the_oldest_python():
    assert {name: reason for name in MODULES if (reason := newer_syntax(name))} == {}


@pytest.mark.parametrize(
    ("text", "newer"),
    [
        ("import torch\nSCHEDULE = torch.export.export\n", ["torch.export"]),
        ("from torch.nn import attention\nimport torch.compiler\n", ["torch.compiler", "torch.nn.attention"]),
        ("import torch\ndef made(form=torch.uint16): ...\n", ["torch.uint16"]),
        ("import torch\nclass Kept:\n    event = torch.Event()\n", ["torch.Event"]),
        ("import torch\ndef later():\n    return torch.export\n", []),
        ("import torch\nNET = torch.nn.Linear\n", []),
    ],
)
def test_a_name_that_is_newer_is_found_on_import(text, newer):
    assert newer_names(run_on_import(ast.parse(text))) == newer


def test_syntax_that_is_newer_is_found():
    texts = [("type X = int", PROJECT), ("match x:\n case 1: 2", WHEEL)]
    if sys.version_info < (3, 12):  # from then on the parser takes it for every version
        texts.append(("with (a as b, c as d): pass", WHEEL))
    for text, version in texts:
        with pytest.raises(SyntaxError):
            ast.parse(text, feature_version=version)
