"""The page about CI: its YAML is what the two services take, and what reads a file of results does read one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import yaml

from commands import compare
from selftests.house.shown import scripts_of
from selftests.inside import ROOT

PAGE = (ROOT / "docs" / "ci.md").read_text()
GITHUB, GITLAB = (yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S))
# What GitLab calls keys at the top that are no jobs.
NO_JOBS = {"stages", "default"}


def problems_of_github(workflow):
    """What GitHub would refuse, or would do otherwise than is meant."""
    # YAML 1.1 reads the key `on` as true
    yield from (f"no {key}" for key in ("jobs", True) if key not in workflow)
    for name, job in workflow["jobs"].items():
        if not {"runs-on", "timeout-minutes"} <= job.keys():
            yield f"{name} runs nowhere, or for ever"
        for step in job["steps"]:
            if ("run" in step) == ("uses" in step):
                yield f"{name}: a step has either run or uses"
            if "uses" in step and not re.fullmatch(r"[\w./-]+@v\d+", step["uses"]):
                yield f"{name}: {step['uses']} has no version"


def problems_of_gitlab(pipeline):
    for name, job in pipeline.items():
        if name in NO_JOBS:
            continue
        if job.get("stage") not in pipeline["stages"]:
            yield f"{name} is of no stage"
        if not all(isinstance(line, str) for line in job.get("script", [None])):
            yield f"{name}: a line of the script is no text"


def test_both_services_would_take_the_examples():
    assert not list(problems_of_github(GITHUB)) and not list(problems_of_gitlab(GITLAB))


def test_an_example_with_a_mistake_is_found_out():
    """The sabotage: an action without a version, a step that does nothing, a line that YAML reads as a mapping."""
    steps = [{"uses": "actions/checkout"}, {"name": "nothing"}]
    found = problems_of_github({True: {}, "jobs": {"a": {"runs-on": "x", "timeout-minutes": 1, "steps": steps}}})
    assert len(list(found)) == 2
    wrong = yaml.safe_load("stages: [test]\na:\n  stage: test\n  script:\n    - echo 'a': b\n    - ls\n")
    assert len(list(problems_of_gitlab(wrong))) == 1


@pytest.mark.parametrize("example", [GITHUB, GITLAB], ids=["GitHub", "GitLab"])
def test_an_example_gates_on_accuracy_and_on_a_comparison_of_what_it_measured(example):
    text = "\n".join(scripts_of(example)).replace("\\\n", " ")
    for words in ("--min-top1 ", "visionmark compare ", "--bound 5%"):
        assert words in text
    first, second = re.search(r"visionmark compare +(\S+) +(\S+)", text).groups()
    assert [len(side.split(",")) for side in (first, second)] == [3, 3], "one run a side shows no noise of the machine"
    measured = re.search(r"--benchmark-json \S*?(\w+)/\$run\.json", text)[1]
    assert {name.partition("/")[0] for name in second.split(",")} == {measured}
    assert {name.partition("/")[0] for name in first.split(",")} == {"baseline"}


@pytest.mark.parametrize("example", [GITHUB, GITLAB], ids=["GitHub", "GitLab"])
def test_the_scripts_are_right_shell(example):
    for script in scripts_of(example):
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert done.returncode == 0, f"{script}: {done.stderr}"


def test_the_codes_of_compare_are_those_that_it_has():
    rows = [line.split("|") for line in PAGE.splitlines() if re.match(r"\| \d+ \|", line)]
    told = {int(row[1]): row[3].strip() for row in rows}
    assert told[compare.WORSE] == "a row is slower or less right"
    assert told[compare.USAGE_ERROR] == "a file cannot be read"
    assert told[compare.NOT_COMPARED] == "a row was not compared"


RECORDS = [
    {"case": "m-cpu-fp32-bs1-eager", "measurement": "latency", "p50_ms": 7.5, "p99_ms": None, "runqueue_wait_pct": 1.0},
    {
        "case": "m-cpu-fp32-bs1-eager",
        "measurement": "throughput",
        "images_per_second": 131.0,
        "runqueue_wait_pct": 30.0,
    },
    {"case": "m-cpu-fp32-bs1-eager", "measurement": "accuracy", "top1": {"pct": 75.5}},
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a file of results, which is the working directory."""
    benchmarks = [{"extra_info": record} for record in RECORDS]
    environment = {"libraries": {"torch": "2.14.1"}}
    content = {"benchmarks": benchmarks, "visionmark": {"environment": environment}}
    (tmp_path / "out.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    return tmp_path


JQ = re.findall(r"^jq .*$", PAGE, re.M)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is no Python package: apt-get install jq")
def test_what_jq_reads(folder):
    done = [subprocess.run(line, shell=True, capture_output=True, text=True) for line in JQ]
    assert [one.stdout for one in done] == [
        "m-cpu-fp32-bs1-eager\t131\n",
        "m-cpu-fp32-bs1-eager throughput\n",
        "true\n",
    ]
    assert [one.returncode for one in done] == [0, 0, 0]
    slow = (folder / "out.json").read_text().replace("7.5,", "70.5,")
    (folder / "out.json").write_text(slow)
    assert subprocess.run(JQ[2], shell=True, capture_output=True).returncode == 1


def test_what_pandas_reads(folder, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    names = {}
    exec(code, names)
    (row,) = names["table"].reset_index().to_dict("records")
    assert (row["p50_ms"], row["images_per_second"], row["top1.pct"], row["torch"]) == (7.5, 131.0, 75.5, "2.14.1")
    assert "m-cpu-fp32-bs1-eager" in capsys.readouterr().out
