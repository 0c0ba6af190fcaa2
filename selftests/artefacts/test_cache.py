"""What was made once is used again only while it is provably the same, by however many runs at once."""

import json
import multiprocessing
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch

from harness.artefacts import ArtefactCache, CacheError, default_folder, key_of
from harness.artefacts import cache as cache_module

KEY = {"kind": "test", "weights_sha256": "a", "batch": 1}


def write(text):
    def make(folder):
        (folder / "model.bin").write_text(text)
        (folder / "beside").mkdir()
        (folder / "beside" / "weights.bin").write_text(text * 2)

    return make


def refuse(folder):
    raise AssertionError("made again")


@pytest.fixture
def cache(tmp_path):
    return ArtefactCache(tmp_path / "cache")


def test_what_was_made_is_found_again(cache):
    made = cache.obtain(KEY, write("one"))
    assert made.state == "made"
    found = cache.obtain(dict(reversed(KEY.items())), refuse)
    assert (found.state, found.folder) == ("cached", made.folder)
    assert (found.folder / "model.bin").read_text() == "one"


@pytest.mark.parametrize("part", KEY)
def test_another_key_is_another_artefact(cache, part):
    cache.obtain(KEY, write("one"))
    other = cache.obtain({**KEY, part: "other"}, write("two"))
    assert other.state == "made"
    assert (other.folder / "model.bin").read_text() == "two"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "model.bin").write_text("onf"), "model.bin changed since"),
        (lambda folder: (folder / "beside" / "weights.bin").write_text(""), "weights.bin changed since"),
        (lambda folder: (folder / "model.bin").unlink(), "missing"),
        (lambda folder: (folder / "more.bin").write_text("x"), "added"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "something else"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest"),
    ],
    ids=["bytes", "truncated", "gone", "added", "manifest broken", "manifest of no key", "manifest gone"],
)
def test_a_damaged_artefact_is_rebuilt_and_says_why(cache, damage, words):
    damage(cache.obtain(KEY, write("one")).folder)
    rebuilt = cache.obtain(KEY, write("one"))
    assert rebuilt.state.startswith("rebuilt: ")
    assert words in rebuilt.state
    assert cache.obtain(KEY, refuse).state == "cached"


def test_an_artefact_of_other_weights_under_this_key_is_not_used(cache):
    mine = cache.obtain(KEY, write("one"))
    other = cache.obtain({**KEY, "weights_sha256": "b"}, write("two"))
    for path in other.folder.rglob("*"):
        if path.is_file():
            (mine.folder / path.relative_to(other.folder)).write_bytes(path.read_bytes())
    rebuilt = cache.obtain(KEY, write("one"))
    assert rebuilt.state == "rebuilt: it was made for something else"
    assert (rebuilt.folder / "model.bin").read_text() == "one"


def test_what_failed_while_being_made_leaves_nothing(cache):
    def fail(folder):
        (folder / "model.bin").write_text("half")
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        cache.obtain(KEY, fail)
    assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]
    assert cache.obtain(KEY, write("one")).state == "made"


def obtain_slowly(folder, results, count):
    def make(part):
        with (folder / "count").open("a") as file:
            file.write("made\n")
        with (part / "model.bin").open("wb") as file:
            for _ in range(20):
                file.write(os.urandom(1 << 16))
                file.flush()
                time.sleep(0.01)

    for _ in range(count):
        artefact = ArtefactCache(folder / "cache").obtain(KEY, make)
        results.put((artefact.state, (artefact.folder / "model.bin").read_bytes()))


def start(target, *arguments):
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_runs_at_once_make_it_once_and_see_it_whole(tmp_path):
    results = multiprocessing.get_context("fork").Queue()
    processes = [start(obtain_slowly, tmp_path, results, 3) for _ in range(4)]
    seen = [results.get(timeout=60) for _ in range(12)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert sorted(state for state, _ in seen) == ["cached"] * 11 + ["made"]
    assert len({content for _, content in seen}) == 1
    assert len(seen[0][1]) == 20 << 16
    assert (tmp_path / "count").read_text() == "made\n"


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_run_that_was_killed_while_making_leaves_no_lock_and_no_half(tmp_path):
    results = multiprocessing.get_context("fork").Queue()
    process = start(obtain_slowly, tmp_path, results, 1)
    cache = ArtefactCache(tmp_path / "cache")
    deadline = time.monotonic() + 30
    while not list(cache.folder.glob("*.part/model.bin")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    assert list(cache.folder.glob("*.part")), "killed too late to prove anything"
    assert cache.obtain(KEY, write("one")).state == "made"
    assert not list(cache.folder.glob("*.part"))


def test_a_folder_that_cannot_be_written_is_an_error_with_the_way_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="give --cache-dir DIR"):
        ArtefactCache(tmp_path / "file" / "cache").obtain(KEY, write("one"))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_CACHE_HOME": "/somewhere"}, Path("/somewhere/visionmark")),
        ({"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache" / "visionmark"),
        ({}, Path.home() / ".cache" / "visionmark"),
    ],
)
def test_the_default_folder_is_where_caches_are_kept(variables, expected):
    assert default_folder(variables) == expected


def layers(stride=1, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=stride), torch.nn.ReLU())


def test_the_key_knows_weights_structure_versions_code_and_parts(tmp_path, monkeypatch):
    source = tmp_path / "maker.py"
    source.write_text("one")

    def key(module=None, batch=1):
        return key_of("k", module or layers(), libraries=("onnx",), sources=(source,), batch=batch)

    first = key()
    assert json.loads(json.dumps(first)) == first
    assert key() == first
    others = [key(layers(seed=1)), key(layers(stride=2)), key(batch=2)]
    source.write_text("two")
    others.append(key())
    source.write_text("one")
    monkeypatch.setattr(cache_module, "_version", lambda name: "0")
    others.append(key())
    assert all(other != first for other in others)
    assert first["libraries"].keys() == {"onnx", "torch"}


def test_a_user_without_a_home_is_told_only_once_the_cache_is_needed(monkeypatch, tmp_path):
    from harness.data import NoImages, open_data_set

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.chdir(tmp_path)
    folder = default_folder({})
    with pytest.raises(CacheError, match="no home folder.*--cache-dir"):
        ArtefactCache(folder).obtain({"kind": "any"}, lambda part: None)
    with pytest.raises(NoImages, match="no home folder.*--cache-dir"):
        open_data_set(f"file://{tmp_path}/set", folder)
    assert not list(tmp_path.iterdir())


LAYER = """
import torch

class Doubles(torch.nn.Module):
    def forward(self, x):
        return x * {factor}
"""


def test_the_key_knows_the_code_of_our_own_layers(tmp_path, monkeypatch):
    """A changed `forward` shows in no weight and in no name: the same structure computes something else."""
    source = tmp_path / "own_layer.py"
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for factor in (2, 3):
        source.write_text(LAYER.format(factor=factor))
        layer = import_module("own_layer").Doubles()
        keys.append(key_of("k", torch.nn.Sequential(layer), libraries=(), sources=()))
        monkeypatch.delitem(sys.modules, "own_layer")
    assert keys[0]["structure_sha256"] == keys[1]["structure_sha256"]
    assert keys[0] != keys[1]


def test_the_key_knows_every_file_of_our_own_models():
    """A layer calls functions of other files, such as those that lay out boxes."""
    from models.networks import network_of

    sources = {"/".join(path.parts[-2:]) for path in cache_module.code_of(network_of("ssd_mobilenet_v1_025"))[1]}
    assert {"models/build.py", "models/networks.py", "detectors/whole.py"} <= sources


def test_the_key_knows_the_version_of_the_library_that_layers_are_from():
    from timm.layers import BatchNormAct2d

    assert "timm" not in key_of("k", layers(), libraries=(), sources=())["libraries"]
    assert "timm" in key_of("k", torch.nn.Sequential(BatchNormAct2d(3)), libraries=(), sources=())["libraries"]
