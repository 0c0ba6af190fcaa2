"""Which cores and how many threads: decided on machines that are made of files."""

from __future__ import annotations

import pytest

from harness.host.cores import (
    Allotment,
    PhysicalCore,
    allot,
    cpu_quota,
    parse_cores,
    physical_cores,
    share_out,
    usable_cores,
)
from harness.host.cores import allotment as allotment_module
from harness.jobs.stream import stream_placements


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.fixture
def two_sockets(tmp_path):
    """Two sockets of four cores with two hyper-threads each: core i is CPUs i and i + 8, as Linux numbers them."""
    for cpu in range(16):
        core = cpu % 8
        written(tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{core},{core + 8}")
    written(tmp_path / "sys/devices/system/node/node0/cpulist", "0-3,8-11")
    written(tmp_path / "sys/devices/system/node/node1/cpulist", "4-7,12-15")
    return tmp_path


ALL = range(16)


def quota(root, cpu_max, path="/", group="0::/"):
    written(root / "proc/self/cgroup", group)
    written(root / f"sys/fs/cgroup{path}/cpu.max".replace("//", "/"), cpu_max)


def test_a_thread_for_each_physical_core_and_none_for_hyper_threads(two_sockets):
    here = allot(ALL, root=two_sockets)
    assert here.threads == len(here.cores) == 8
    assert here.cpus == tuple(ALL)
    assert here.chosen_by == "physical cores"
    assert here.cores[0] == PhysicalCore(0, (0, 8))
    assert here.cores[-1] == PhysicalCore(1, (7, 15))


def test_hyper_threads_are_used_when_they_are_asked_for(two_sockets):
    assert allot(ALL, threads=16, root=two_sockets).threads == 16


def test_affinity_counts_in_physical_cores(two_sockets):
    assert allot({0, 1, 8, 9}, root=two_sockets).threads == 2
    assert allot({3, 12}, root=two_sockets).threads == 2
    assert physical_cores({8}, two_sockets) == (PhysicalCore(0, (8,)),)


@pytest.mark.parametrize(
    ("cpu_max", "threads"), [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 8)]
)
def test_the_quota_of_a_container_decides_the_number_of_threads(two_sockets, cpu_max, threads):
    quota(two_sockets, cpu_max)
    here = allot(ALL, root=two_sockets)
    assert here.threads == threads
    assert here.chosen_by == ("CPU quota" if threads < 8 else "physical cores")
    assert here.record()["quota_cpus"] == (None if "max" in cpu_max else int(cpu_max.split()[0]) / 1e5)


def test_a_quota_above_the_cores_changes_nothing(two_sockets):
    quota(two_sockets, "6400000 100000")
    assert allot(ALL, root=two_sockets).threads == 8


def test_the_smallest_quota_of_the_groups_around_the_process_counts(two_sockets):
    quota(two_sockets, "max 100000", "/pod/box", "0::/pod/box")
    written(two_sockets / "sys/fs/cgroup/pod/cpu.max", "300000 100000")
    assert cpu_quota(two_sockets) == 3


def test_the_quota_of_control_groups_version_1(two_sockets):
    """In a container, the path is the host's, and the group itself is mounted at the top."""
    written(two_sockets / "proc/self/cgroup", "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n0::/")
    group = two_sockets / "sys/fs/cgroup/cpu,cpuacct"
    written(group / "cpu.cfs_period_us", "100000")
    written(group / "cpu.cfs_quota_us", "-1")
    assert cpu_quota(two_sockets) is None
    written(group / "cpu.cfs_quota_us", "250000")
    assert cpu_quota(two_sockets) == 2.5
    assert allot(ALL, root=two_sockets).threads == 2


def test_one_node_is_its_cores(two_sockets):
    here = allot(ALL, node=1, root=two_sockets)
    assert here.cpus == (4, 5, 6, 7, 12, 13, 14, 15)
    assert here.threads == 4
    assert here.record()["numa_nodes"] == [1]
    with pytest.raises(ValueError, match="--numa-node 2 has none of the cores .* may use node 0, 1"):
        allot(ALL, node=2, root=two_sockets)


def test_cores_that_the_process_was_not_given_are_refused(two_sockets):
    assert allot(ALL, cores=(0, 8, 1), root=two_sockets).threads == 2
    with pytest.raises(ValueError, match="--cores 3,5: this process may run on 0,1,2,3;.*taskset"):
        allot(range(4), cores=(3, 5), root=two_sockets)


def test_a_machine_that_tells_nothing_has_a_core_for_each_cpu(tmp_path):
    here = allot({0, 1, 2}, root=tmp_path)
    assert here.threads == 3
    assert here.quota_cpus is None


def test_lists_of_cores_are_read_as_taskset_writes_them():
    assert parse_cores("0-3,8") == (0, 1, 2, 3, 8)
    assert parse_cores("0-6:2") == (0, 2, 4, 6)
    for wrong in ("0-", "a", "3-1", "1-3:0", "-1"):
        with pytest.raises(ValueError, match="such as 0-3,8"):
            parse_cores(wrong)


def cpus_of(shares):
    return [tuple(cpu for core in share for cpu in core.cpus) for share in shares]


@pytest.mark.parametrize("parts", range(1, 9))
def test_streams_share_no_physical_core(two_sockets, parts):
    cores = physical_cores(ALL, two_sockets)
    shares = share_out(cores, parts)
    assert len(shares) == parts
    assert sorted(core for share in shares for core in share) == sorted(cores)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    if parts % 2 == 0:
        assert all(len({core.node for core in share}) == 1 for share in shares)


def test_two_streams_are_on_a_socket_each(two_sockets):
    places = stream_placements(allot(ALL, root=two_sockets), 2, is_on_host=True)
    assert [place.cores for place in places] == [(0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)]
    assert [place.threads for place in places] == [4, 4]


def test_a_share_straddles_no_node_that_it_need_not():
    cores = [PhysicalCore(cpu // 3, (cpu,)) for cpu in range(6)]
    assert cpus_of(share_out(cores, 4)) == [(0, 1), (2,), (3, 4), (5,)]
    assert cpus_of(share_out(cores, 9)) == [(0,), (1,), (2,), (3,), (4,), (5,), (0,), (1,), (2,)]


def test_streams_of_an_accelerator_have_all_the_cores(two_sockets):
    (first, second) = stream_placements(allot(ALL, root=two_sockets), 2, is_on_host=False)
    assert first.cores == second.cores == tuple(ALL)


def test_decoding_keeps_to_the_quota(monkeypatch, two_sockets):
    quota(two_sockets, "200000 100000")
    monkeypatch.setattr(allotment_module, "_taken", allot(ALL, root=two_sockets))
    assert usable_cores() == 2


def test_an_unbound_run_says_nothing_of_memory():
    assert Allotment((PhysicalCore(0, (0,)),), 1, "physical cores").record()["memory"] is None
