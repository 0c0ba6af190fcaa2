"""A cluster is joined by the name that the user gives, or one line says why not; on two nodes it works."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
from importlib.util import find_spec

import pytest

from harness.jobs.crews.address import (
    Listener,
    NoCluster,
    is_loopback,
    require_private,
    require_reachable,
    split_address,
)
from harness.jobs.crews.cluster import ClusterNode, deal, within
from harness.jobs.crews.versions import DifferentVersions, require_same, versions_here
from harness.report.merged import merged
from selftests.inside import ROOT, TINY, clean_environment
from selftests.jobs.two_nodes import NO_NETWORK

HERE = {"python": "3.11.2", "torch": "2.14.1", "visionmark": "abc"}
NODES = [ClusterNode("a" * 20, "first 10.0.0.1", 2, 0), ClusterNode("b" * 20, "second 10.0.0.2", 1, 4)]


@pytest.mark.parametrize("address", ["auto", "local", "", "10.0.0.1", "ray://10.0.0.1:10001", "10.0.0.1:port"])
def test_only_an_address_names_a_cluster(address):
    with pytest.raises(NoCluster, match="is no HOST:PORT of a Ray cluster"):
        split_address(address)


def test_a_cluster_that_a_variable_names_is_not_joined_by_accident(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.9.9.9:6379")
    with pytest.raises(NoCluster, match=r"RAY_ADDRESS names another cluster, 10.9.9.9:6379, than 10.0.0.1:6379"):
        split_address("10.0.0.1:6379")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert split_address("10.0.0.1:6379") == ("10.0.0.1", 6379)


def test_where_nothing_listens_there_is_no_cluster():
    with pytest.raises(NoCluster, match=r"no cluster at 127.0.0.1:1 .*ray start --head --port 1"):
        require_reachable("127.0.0.1", 1)


def test_a_cluster_that_does_not_answer_is_given_up():
    never = threading.Event()
    with pytest.raises(NoCluster, match="the cluster does not answer within 30 s"):
        within(0.05, never.wait, "the cluster")
    never.set()


def test_what_ray_says_of_a_cluster_is_one_line():
    def refuse():
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.40.0\n    Python: 3.12")

    with pytest.raises(NoCluster, match=r"cannot be joined: Version mismatch: .*: Ray: 2.40.0 Python: 3.12"):
        within(5, refuse, "the cluster")


@pytest.mark.parametrize("ip", ["0.0.0.0", "::", "10.1.2.3", "::ffff:10.1.2.3"])
def test_ray_that_others_can_reach_is_refused_where_nobody_asked_for_that(ip):
    others = [Listener("sshd", "0.0.0.0", 22), Listener("raylet", "::ffff:127.0.0.1", 7001)]
    with pytest.raises(NoCluster, match=f"reached from others there .gcs_server on {ip}.*unshare --net"):
        require_private("127.0.0.1", 6379, [*others, Listener("gcs_server", ip, 6379)])
    with pytest.raises(NoCluster, match=f"reached from others there .raylet on {ip}"):
        require_private("127.0.0.1", 6379, [*others, Listener("raylet", ip, 7002)])
    with pytest.raises(NoCluster, match=f"reached from others there .Ray on {ip}"):
        require_private("127.0.0.1", 6379, [*others, Listener(None, ip, 6379)])  # of another user
    require_private("10.1.2.3", 6379, [Listener("gcs_server", ip, 6379)])  # asked for
    require_private("localhost", 6379, [*others, Listener("gcs_server", "127.0.0.1", 6379)])


def test_the_loopback_is_known_in_all_its_names():
    assert all(map(is_loopback, ("127.0.0.1", "127.0.1.1", "::1", "localhost", "::ffff:127.0.0.1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "host")))


def test_nodes_with_other_versions_are_refused_by_name():
    same = {"first": dict(HERE)}
    require_same(HERE, same)
    other = {**HERE, "torch": "2.13.0", "openvino": "2026.1"}
    with pytest.raises(DifferentVersions) as caught:
        require_same(HERE, {**same, "second": other, "third": {**HERE, "visionmark": "abd"}})
    text = str(caught.value)
    assert "second has torch 2.13.0 (here 2.14.1), openvino 2026.1 (here absent)" in text
    assert "third has visionmark abd (here abc)" in text
    assert "first" not in text.replace("first " * 0, "").split("versions: ")[1]


def test_this_machine_has_versions_and_a_digest_of_the_sources():
    found = versions_here()
    assert found["torch"] and len(found["visionmark"]) == 12


def test_workers_are_dealt_out_over_the_nodes_in_turn():
    assert [(node.host[:6], part, parts) for node, part, parts in deal(NODES, 3, wants_gpus=False)] == [
        ("first ", 0, 2),
        ("second", 0, 1),
        ("first ", 1, 2),
    ]
    assert {node.host for node, _, _ in deal(NODES, 4, wants_gpus=True)} == {"second 10.0.0.2"}


def test_more_workers_than_places_are_refused():
    with pytest.raises(NoCluster, match=r"4 workers, and the cluster lends 3 CPUs .*ask for fewer"):
        deal(NODES, 4, wants_gpus=False)
    with pytest.raises(NoCluster, match="lends 0 accelerators"):
        deal(NODES[:1], 1, wants_gpus=True)


def test_the_files_of_several_nodes_become_one():
    first = {"machine_info": {"node": "a"}, "visionmark": {"schema": 3}, "benchmarks": [{"extra_info": {"case": "x"}}]}
    second = {"machine_info": {"node": "b"}, "visionmark": {"schema": 3}, "benchmarks": [{"extra_info": {"case": "y"}}]}
    whole = merged([("one", first), ("two", second)])
    assert [row["extra_info"] for row in whole["benchmarks"]] == [
        {"case": "x", "node": "one"},
        {"case": "y", "node": "two"},
    ]
    assert whole["nodes"]["two"]["machine_info"] == {"node": "b"}
    assert first["benchmarks"][0]["extra_info"] == {"case": "x"}, "what was given is left as it was"
    with pytest.raises(ValueError, match="no case"):
        merged([])


def on_two_nodes(*words, kill_at=None, watch=None, kill_with=None):
    """What a command did on a cluster of two nodes."""
    if find_spec("ray") is None:
        pytest.skip("needs Ray: pip install -r requirements/cluster.txt")
    kill = [] if kill_at is None else ["--kill-at", str(kill_at), "--watch", str(watch)]
    kill += [] if kill_with is None else ["--kill-with", kill_with]
    done = subprocess.run(
        [sys.executable, "-m", "selftests.jobs.two_nodes", *kill, "--", sys.executable, "-m", *words],
        cwd=ROOT,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    if done.returncode == NO_NETWORK:
        pytest.skip("needs a network of its own, for which this user has no right (unshare --net)")
    return done


BULK = (
    *("pytest", "-p", "no:cacheprovider", "tests_perf/test_bulk.py", "--model", TINY, "--precision", "fp32"),
    *("--engine", "eager", "--batch-size", "4", "--batches-per-step", "2", "--dummy", "--num-inputs", "200"),
    *("--bulk-workers", "2"),
)


@pytest.mark.slow
def test_a_node_that_is_killed_in_the_middle_of_a_bulk_run_loses_no_image(tmp_path):
    out = tmp_path / "out.json"
    words = (*BULK, "--bulk-cluster", "ADDRESS", f"--benchmark-json={out}", f"--output-dir={tmp_path}/run")
    done = on_two_nodes(*words, kill_at=5, watch=tmp_path / "run")
    assert done.returncode == 0, done.stdout
    assert "killed a node at 5 blocks" in done.stdout
    (row,) = (one["extra_info"] for one in json.loads(out.read_text())["benchmarks"])
    assert row["launcher"] == "ray"
    assert len(row["nodes"]) == 2
    assert row["images"] == row["predictions"] == 200
    assert "was lost" in row["lost"][0]["reason"]
    assert row["repeated_images"] > 0
    (merged_file,) = (tmp_path / "run").rglob("predictions.csv")
    names = [line["filename"] for line in csv.DictReader(merged_file.open())]
    assert names == [f"{index:06d}.JPEG" for index in range(200)]


SWEEP = (
    *("commands", "run", "--cluster", "ADDRESS", "tests_perf/test_latency.py", "--model", TINY),
    *("--precision", "fp32", "--engine", "eager", "--batch-size", "1,2,4", "--max-test-duration", "0.2"),
)


@pytest.mark.slow
def test_the_case_of_a_node_that_dies_is_run_by_another(tmp_path):
    out = tmp_path / "out.json"
    done = on_two_nodes(*SWEEP, "--benchmark-json", str(out), kill_with="fixtures.one_case")
    assert done.returncode == 0, done.stdout
    assert "killed a node with fixtures.one_case" in done.stdout
    assert "was lost" in done.stdout
    rows = [one["extra_info"] for one in json.loads(out.read_text())["benchmarks"]]
    assert [row["batch"] for row in rows] == [1, 2, 4]
    assert len({row["node"] for row in rows}) == 1, "the node that was killed had not ended its first case"
    assert "NOT MEASURED" not in done.stdout


@pytest.mark.slow
def test_each_case_of_a_sweep_has_a_node_and_the_records_are_merged(tmp_path):
    out = tmp_path / "out.json"
    done = on_two_nodes(*SWEEP, "--benchmark-json", str(out))
    assert done.returncode == 0, done.stdout
    rows = [one["extra_info"] for one in json.loads(out.read_text())["benchmarks"]]
    assert [row["batch"] for row in rows] == [1, 2, 4]
    assert len({row["node"] for row in rows}) == 2
    assert "3 rows of 3 cases" in done.stdout
