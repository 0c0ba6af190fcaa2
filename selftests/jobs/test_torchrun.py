"""Processes that train together: one record, equal weights, and an end in time when one or the launcher dies."""

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from harness.files import whole_file
from harness.host.cores import PhysicalCore
from harness.jobs.torchrun import Together, placements
from harness.jobs.torchrun_agent import told
from harness.jobs.training_rank import allotment_of, is_of_this_run, note_earlier
from selftests.inside import ROOT, clean_environment
from selftests.photographs import write_labelled

WITHIN_S = 120


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """17 images: no number that two replicas share evenly."""
    folder = write_labelled(tmp_path_factory.mktemp("photographs"))
    first = next(folder.glob("*/*.png"))
    (first.parent / "another.png").write_bytes(first.read_bytes())
    return folder


def start(photographs, folder, arguments):
    """`visionmark train` of a model without batch norms, so that two replicas compute what one does."""
    command = [sys.executable, "-m", "commands", "train", "--model", "timm:test_efficientnet_gn"]
    command += ["--data", str(photographs), "--output-dir", str(folder), "--warmup-epochs", "0"]
    command += ["--learning-rate", "0.01", "--no-augment", "--threads", "1", *arguments.split()]
    return subprocess.Popen(
        command, cwd=ROOT, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    text, _ = process.communicate(timeout=WITHIN_S)
    return process.returncode, text


def wait_for(what, process):
    """Wait until something is true; fail when the process ends before, or nothing comes."""
    end = time.monotonic() + WITHIN_S
    while not (found := what()):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def ranks_of(process):
    """The processes that train, by their rank."""
    below = psutil.Process(process.pid).children(recursive=True)
    found = [one for one in below if "harness.jobs.training_rank" in one.cmdline()]
    return {int(one.environ()["RANK"]): one for one in found}


def record_of(folder):
    return json.loads((Path(folder) / "record.json").read_text())


@pytest.mark.slow
def test_two_replicas_train_as_one_of_twice_the_batch_and_count_every_image_once(photographs, tmp_path):
    code, text = finish(start(photographs, tmp_path / "two", "--replicas 2 --batch-size 4 --steps 4 --eval"))
    assert code == 0, text
    code, one_text = finish(start(photographs, tmp_path / "one", "--batch-size 8 --steps 4 --eval"))
    assert code == 0, one_text
    two, one = record_of(tmp_path / "two"), record_of(tmp_path / "one")
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-4)
    weights = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"] for name in ("two", "one")]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-5)
    assert two["images"] == one["images"] == 32
    assert two["replicas"] == len(two["each"]) == 2
    assert len({each["pid"] for each in two["each"]}) == 2
    assert two["evaluations"][0]["images"] == two["evaluation"]["images"] == 17, "padded, or counted twice"
    assert two["evaluations"][0]["right"] == one["evaluations"][0]["right"]
    assert two["gradient_agreement"] < 1e-4
    assert min(two["scaling"], two["cpu_efficiency_pct"]) > 0
    assert 0 <= two["communication_pct"] <= 100
    assert "2 replicas" in text


@pytest.mark.slow
def test_what_is_wrong_for_all_replicas_is_told_once(photographs, tmp_path):
    code, text = finish(start(photographs, tmp_path, "--replicas 2 --batch-size 16"))
    assert code == 1
    assert text.splitlines()[-1].startswith("visionmark train: one step takes 32 images (2 x 16), and there are 17")
    assert text.count("one step takes") == 1


@pytest.mark.slow
def test_a_replica_that_is_killed_ends_the_run_by_its_name(photographs, tmp_path):
    process = start(photographs, tmp_path, "--replicas 2 --batch-size 4 --steps 100000 --train-epochs 100000")
    wait_for((tmp_path / "checkpoint.pt").exists, process)
    ranks = ranks_of(process)
    ranks[1].send_signal(signal.SIGKILL)
    code, text = finish(process)
    assert code == 1, text
    assert f"replica 1 (pid {ranks[1].pid}) was killed by SIGKILL" in text
    assert not psutil.wait_procs(ranks.values(), timeout=10)[1]


@pytest.mark.slow
def test_processes_end_with_the_launcher_even_when_it_is_killed(photographs, tmp_path):
    process = start(photographs, tmp_path, "--replicas 2 --batch-size 4 --steps 100000 --train-epochs 100000")
    wait_for((tmp_path / "checkpoint.pt").exists, process)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(ranks_of(process)) == 2
    process.kill()
    process.wait()
    assert not psutil.wait_procs(below, timeout=30)[1], "a process outlived its launcher"


@pytest.mark.slow
def test_a_run_that_lost_a_replica_goes_on_from_its_checkpoint_to_the_same_bits(photographs, tmp_path):
    arguments = "--replicas 2 --batch-size 4 --steps 60 --train-epochs 1000 --save-every 5"
    code, text = finish(start(photographs, tmp_path / "whole", arguments))
    assert code == 0, text
    process = start(photographs, tmp_path / "lost", f"{arguments} --max-restarts 1")
    wait_for((tmp_path / "lost" / "checkpoint.pt").exists, process)
    ranks_of(process)[1].send_signal(signal.SIGKILL)
    code, text = finish(process)
    assert code == 0, text
    whole, lost = record_of(tmp_path / "whole"), record_of(tmp_path / "lost")
    assert lost["restarts"] == 1
    assert lost["began_at_step"] >= 5
    for name in ("weights_sha256", "momentum_sha256", "losses"):
        assert lost[name] == whole[name], name


@pytest.mark.parametrize("is_there", [True, False])
def test_a_replica_lost_before_the_first_checkpoint_takes_that_of_no_earlier_run(is_there, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    if is_there:
        checkpoint.write_text("of an earlier run")
    note_earlier(tmp_path, checkpoint)
    assert not is_of_this_run(tmp_path, checkpoint)
    with whole_file(checkpoint) as part:
        part.write_text("of this run")
    note_earlier(tmp_path, checkpoint)  # as all processes do that begin again
    assert is_of_this_run(tmp_path, checkpoint)
    checkpoint.unlink()
    assert not is_of_this_run(tmp_path, checkpoint)


@pytest.mark.slow
def test_a_fresh_run_that_loses_a_replica_at_once_begins_anew_beside_an_earlier_run(photographs, tmp_path):
    arguments = "--replicas 2 --batch-size 4 --steps 3 --train-epochs 1000"
    code, text = finish(start(photographs, tmp_path, arguments))
    assert code == 0, text
    process = start(photographs, tmp_path, f"{arguments} --max-restarts 1")
    wait_for(lambda: 1 in ranks_of(process), process)
    ranks_of(process)[1].send_signal(signal.SIGKILL)
    code, text = finish(process)
    assert code == 0, text
    record = record_of(tmp_path)
    assert record["restarts"] == 1
    assert (record["began_at_step"], record["images"]) == (0, 24)


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.mark.slow
def test_two_machines_meet_at_an_address_and_give_one_record(photographs, tmp_path):
    arguments = f"--nodes 2 --rendezvous 127.0.0.1:{free_port()} --batch-size 4 --steps 3"
    nodes = [start(photographs, tmp_path / name, arguments) for name in ("a", "b")]
    ended = [finish(node) for node in nodes]
    assert [code for code, _ in ended] == [0, 0], ended
    (path,) = tmp_path.glob("*/record.json")
    record = json.loads(path.read_text())
    assert record["replicas"] == 2
    assert record["images"] == 24
    assert sum("are on the machine of replica 0" in text for _, text in ended) == 1


@pytest.mark.slow
def test_machines_that_do_not_meet_are_told_in_one_line(photographs, tmp_path):
    """192.0.2.1 is an address of no machine (RFC 5737)."""
    process = start(photographs, tmp_path, "--nodes 2 --rendezvous 192.0.2.1:29400 --batch-size 4 --steps 3")
    code, text = finish(process)
    assert code == 1
    assert "the machines do not meet at 192.0.2.1:29400" in text.splitlines()[-1]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_bits_of_one_that_was_not(photographs, tmp_path):
    arguments = "--batch-size 4 --steps 40 --train-epochs 1000 --save-every 1"
    assert finish(start(photographs, tmp_path / "whole", arguments))[0] == 0
    process = start(photographs, tmp_path / "killed", arguments)
    wait_for((tmp_path / "killed" / "checkpoint.pt").exists, process)
    process.kill()
    process.wait()
    code, text = finish(start(photographs, tmp_path / "killed", f"{arguments} --resume"))
    assert code == 0, text
    whole, killed = record_of(tmp_path / "whole"), record_of(tmp_path / "killed")
    assert 0 < killed["began_at_step"] < 40
    assert (killed["weights_sha256"], killed["momentum_sha256"]) == (whole["weights_sha256"], whole["momentum_sha256"])


def failed(exitcode, timestamp, message="", pid=7):
    return SimpleNamespace(exitcode=exitcode, timestamp=timestamp, message=message, pid=pid)


def test_the_process_that_a_signal_killed_is_named_before_those_that_lost_it():
    lost = failed(1, 10, {"message": "RuntimeError: Connection reset by peer"})
    assert told({0: lost, 1: failed(-signal.SIGKILL, 11)}) == "replica 1 (pid 7) was killed by SIGKILL"
    assert told({0: failed(-signal.SIGTERM, 9), 1: lost}).startswith("replica 0 (pid 7) was killed by SIGTERM")
    assert told({1: lost}) == "replica 1 (pid 7) failed: RuntimeError: Connection reset by peer"


def test_each_replica_has_its_share_of_the_physical_cores():
    cores = [PhysicalCore(node, (4 * node + core, 8 + 4 * node + core)) for node in range(2) for core in range(4)]
    found = placements(cores, 4, None)
    assert [place.threads for place in found] == [2, 2, 2, 2]
    assert [place.cores for place in found] == [(0, 1, 8, 9), (2, 3, 10, 11), (4, 5, 12, 13), (6, 7, 14, 15)]
    assert [place.threads for place in placements(cores, 2, 3)] == [3, 3]
    assert [place.node for place in found] == [0, 0, 1, 1], "the memory of its node too"
    assert [place.node for place in placements(cores, 3, None)] == [0, None, 1]
    assert [place.node for place in placements(cores[:4], 2, None)] == [None, None], "one node: nothing to choose"


def test_a_replica_takes_the_memory_of_its_node(monkeypatch):
    monkeypatch.setattr("harness.host.cores.allotment.numa_nodes", lambda root: {0: 1, 1: 0})
    found = allotment_of({"cpus": [0], "threads": 1, "node": 1})
    assert (found.cpus, found.threads, found.node) == ((0,), 1, 1)
    with pytest.raises(ValueError, match="--numa-node 1 has none of the cores"):
        allotment_of({"cpus": [1], "threads": 1, "node": 1})


def test_only_machines_that_meet_elsewhere_use_their_own_address():
    assert "--standalone" in Together(2).arguments(Path("x"))
    assert "--local-addr" in Together(1, 2, "127.0.0.1:29400").arguments(Path("x"))
    assert "--local-addr" not in Together(1, 2, "node0:29400").arguments(Path("x"))
