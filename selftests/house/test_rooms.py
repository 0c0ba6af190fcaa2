"""The rooms: which may import which, who may name what, and what a newcomer finds at their doors.

The contracts are import-linter's, in pyproject.toml.
"""

import ast
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from selftests.inside import ROOT

ROOMS = sorted(path.parent for path in (ROOT / "harness").glob("*/__init__.py"))
PACKAGES = ("models", "harness", "fixtures", "commands", "tests_perf", "tests_accuracy", "tests_serial", "selftests")


def lint(folder):
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_room_imports_only_what_its_contract_allows():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "words"),
    [
        ("harness/engines/eager/__init__.py", "import harness.data", "harness.engines.eager -> harness.data"),
        ("harness/data/sampling.py", "import harness.engines", "harness.data.sampling -> harness.engines"),
        ("harness/devices/cpu.py", "import harness.engines", "harness.devices.cpu -> harness.engines"),
        ("harness/report/choice.py", "import harness.proof", "harness.report.choice -> harness.proof"),
        ("harness/measure/latency.py", "import harness.measure.streams", "-> harness.measure.streams"),
        ("harness/engines/trace/__init__.py", "import harness.engines.eager", "-> harness.engines.eager"),
        ("commands/telemetry.py", "import pytest", "commands.telemetry -> pytest"),
        ("tests_perf/test_latency.py", "import fixtures.cases", "tests_perf.test_latency -> fixtures.cases"),
    ],
)
def test_an_import_against_the_contract_fails_the_check(module, line, words, tmp_path):
    for package in (*PACKAGES, "benchmarks"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / module
    path.write_text(f"{path.read_text()}\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout
    assert words in done.stdout, done.stdout


# Private parts of torch, of PopTorch and of pytest without which there is no other way.
FOREIGN = ("_inductor", "_dynamo", "_C", "_recursive", "_state", "_is_compiled", "_jit_clear_class_registry")
FOREIGN += ("_clear_class_state", "_is_mkldnn_fp16_supported", "_is_mkldnn_bf16_supported")
FOREIGN += ("_Popart", "_debugGetPopartIR")


def private_uses(folder):
    """What reads a private attribute of another object, as ruff finds it."""
    names = ", ".join(f'"{name}"' for name in FOREIGN)
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ruff"), "check", "--isolated", "--no-cache", "--select=SLF001"),
            *("--output-format=concise", "--config", f"lint.flake8-self.ignore-names=[{names}]", folder),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return [line for line in done.stdout.splitlines() if "SLF001" in line]


def test_nothing_reads_a_private_attribute_of_another_object(tmp_path):
    """A change inside an engine would break saving, or a measurement, and no check of types would tell."""
    assert private_uses(ROOT / "harness") == []
    (tmp_path / "saving.py").write_text("def save(runner):\n    return runner._module.state_dict(), runner._graph\n")
    assert ["_module" in line or "_graph" in line for line in private_uses(tmp_path)] == [True, True]


def test_measuring_one_batch_loads_no_serving_streams_loadgen_or_data_set():
    code = "import sys, harness.measure.latency; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = [name for name in done.stdout.split() if name.startswith("harness.")]
    assert "harness.proof.preparation" in loaded, "the test looks at the wrong process"
    unwanted = ("harness.triton", "harness.data", "harness.jobs", "harness.measure.streams", "harness.measure.loadgen")
    assert [name for name in loaded if name.startswith(unwanted)] == []
    rooms = {name.split(".")[1] for name in loaded}
    needed = {"artefacts", "cases", "devices", "engines", "files", "host", "measure", "progress", "proof"}
    assert rooms == needed, "every measurement pays for what one imports"
    measured = {name.split(".")[2] for name in loaded if name.startswith("harness.measure.")}
    assert measured == {"clock", "drift", "latency", "percentiles"}, "a measurement imports no other"


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_says_at_its_door_what_it_owns_and_what_it_must_not_know(room):
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    sentence = text.split("\n\n")[0]
    assert sentence.startswith("Owns "), text
    assert "ust not know" in sentence, text


def exported(room):
    """The names in a room's `__all__`; none where each of its modules is a door of its own."""
    for node in ast.parse((room / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return {name.value for name in node.value.elts}
    return set()


@pytest.mark.parametrize("room", [room for room in ROOMS if exported(room)], ids=lambda room: room.name)
def test_what_a_room_exports_is_few_and_is_taken_at_its_door(room):
    assert len(exported(room)) <= 16
    inside = f"harness.{room.name}."
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.is_relative_to(room):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(inside):
                    through_the_wall = {alias.name for alias in node.names} & exported(room)
                    assert not through_the_wall, f"{path}:{node.lineno} takes {through_the_wall} from {node.module}"


def test_no_two_classes_or_types_share_a_name():
    """One word a thing: who reads a name has not to ask which of them is meant."""
    places = defaultdict(list)
    for package in ("models", "harness", "fixtures", "commands"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(path)
                elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    name = node.targets[0].id
                    if name[0].isupper() and not name.isupper():
                        places[name].append(path)
    assert len(places) > 100
    assert {name: paths for name, paths in places.items() if len(paths) > 1 and not name.startswith("_")} == {}


def test_torch_is_told_of_an_accelerator_only_in_its_device_file():
    """But for TensorRT, which queues its work on a stream of torch's."""
    allowed = ROOT / "harness" / "engines" / "tensorrt" / "stream.py"
    for path in (ROOT / "harness").rglob("*.py"):
        if path.parent.name == "devices" or path == allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert not ast.unparse(node.func).startswith(("torch.xpu.", "torch.cuda.")), f"{path}:{node.lineno}"


def test_a_device_file_has_no_word_of_an_engine():
    words = ("openvino", "onnxruntime", "tensorrt", "inductor", "ipex", "cudagraph", "batchnorm", "profiler")
    for path in (ROOT / "harness" / "devices").glob("*.py"):
        found = [word for word in words if word in path.read_text().lower()]
        assert not found, f"{path.name} speaks of {found}"


def test_the_root_conftest_is_a_table_of_contents():
    statements = ast.parse((ROOT / "conftest.py").read_text()).body
    assert [type(statement).__name__ for statement in statements] == ["Expr", "Assign"]
