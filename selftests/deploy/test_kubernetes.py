"""The Kubernetes manifests hold for every version, and each mistake that a schema misses is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from commands.manifests.command import main, schema_versions
from fixtures.options.table import columns
from harness.report.profiles import read_profile
from selftests.inside import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
BASES = ("job", "profile", "training")
KUSTOMIZED = [*BASES, *sorted(f"overlays/{path.name}" for path in (FOLDER / "overlays").iterdir())]
KUBECTL = Path(sys.executable).with_name("kubectl")


def rendered(name):
    """What Kustomize makes of a folder."""
    kubectl = str(KUBECTL) if KUBECTL.exists() else shutil.which("kubectl")
    assert kubectl, "no kubectl: pip install -r requirements/pipeline.txt"
    done = subprocess.run([kubectl, "kustomize", str(FOLDER / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(tmp_path, capsys, text):
    path = tmp_path / "manifest.yaml"
    path.write_text(text)
    return main([str(path), "--oldest-only"]), capsys.readouterr().out


@pytest.mark.parametrize("name", KUSTOMIZED)
def test_what_kustomize_makes_holds_for_every_version(name, tmp_path, capsys):
    path = tmp_path / "manifest.yaml"
    path.write_text(rendered(name))
    assert main([str(path)]) == 0, capsys.readouterr().out


def test_the_versions_are_all_from_1_29_to_the_newest():
    minors = [int(version.split(".")[1]) for version in schema_versions()]
    assert minors == list(range(29, minors[-1] + 1))
    assert minors[-1] >= 37


# Of a manifest: what is replaced by what, and the words of the refusal.
MISTAKES = {
    "always": ("job", "restartPolicy: Never", "restartPolicy: Always", "restartPolicy is not Never"),
    "unit": ("job", 'cpu: "8"', "cpu: 8 cores", "8 cores CPUs are no whole number"),
    "over-limit": ("job", 'requests: {cpu: "8"', 'requests: {cpu: "9"', "request and limit of cpu are 9 and 8"),
    "burstable": ("job", "limits: {cpu: \"8\", memory: 16Gi}", "limits: {cpu: \"8\"}", "limit of memory are 16Gi and"),
    "fraction": ("job", 'cpu: "8"', 'cpu: "1.5"', "1.5 CPUs are no whole number"),
    "memory": ("job", "memory: 16Gi", "memory: 1.5Gi", "1.5Gi of memory is no whole number"),
    "misspelt": ("job", "backoffLimit:", "backofLimit:", "backofLimit"),
    "retries": ("job", "backoffLimit: 0", "backoffLimit: 2", "backoffLimit is not 0"),
    "row-retries": ("profile", "backoffLimitPerIndex: 0", "backoffLimitPerIndex: 1", "backoffLimit is not 0"),
    "endless": ("job", "activeDeadlineSeconds: 3600", "suspend: false", "activeDeadlineSeconds is not set"),
    "hasty": ("job", "terminationGracePeriodSeconds: 60", "terminationGracePeriodSeconds: 5", "is below 10"),
    "root": ("job", "runAsNonRoot: true, runAsUser: 1000, ", "", "runAsNonRoot and runAsUser are not set"),
    "latest": ("job", "visionmark:cpu", "visionmark:latest", "visionmark:latest has no tag that stays"),
    "untagged": ("job", "visionmark:cpu", "registry:5000/visionmark", "has no tag that stays"),
    "shell": ("job", "command: [pytest]", 'command: [sh, -c, "pytest $MODEL"]', "would read the values as a script"),
    "unsaved": ("job", "            - {name: results, mountPath: /results}\n", "", "results is mounted 0 times"),
    "twice": (
        *("job", "- {name: results, mountPath: /results}"),
        "- {name: results, mountPath: /results}\n            - {name: results, mountPath: /data, readOnly: true}",
        "results is mounted 2 times",
    ),
    "read-only": ("job", "mountPath: /results}", "mountPath: /results, readOnly: true}", "/results is no claim"),
    "journal": ("job", "            - --journal=/results/$(POD_NAME)/rows.jsonl\n", "", "no --journal=/results/"),
    "no-shm": ("job", "medium: Memory, ", "", "/dev/shm is no emptyDir of medium Memory"),
    "codes": ("job", "values: [1, 2, 3, 4, 5]", "values: [1, 2]", "does not fail on the exit codes 3, 4, 5"),
    "container": ("job", "containerName: visionmark", "containerName: main", "names the container main"),
    "drained": ("job", "type: DisruptionTarget", "type: Other", "does not ignore DisruptionTarget"),
    "neighbour": ("job", "matchLabels: {app.kubernetes.io/name: visionmark}", "matchLabels: {app: x}", "share a node"),
    "any-node": ("job", "nodeSelector:", "nodeName: a\n      x-none:", "nodeSelector is not set"),
    "beside": ("profile", "parallelism: 1", "parallelism: 4", "rows would run beside each other"),
    "no-index": ("profile", "  backoffLimitPerIndex: 0\n", "  backoffLimit: 0\n", "FailIndex needs backoffLimit"),
    "gang": ("training", "parallelism: 2", "parallelism: 1", "ranks that never start"),
    "headed": ("training", "clusterIP: None", "clusterIP: 10.0.0.1", "is not headless"),
    "lost": ("training", "subdomain: visionmark-training", "subdomain: other", "there is no Service other"),
    "others": ("training", "  selector: {app.kubernetes.io/name: visionmark", "  selector: {a: b", "selects other"),
    "writable": ("training", "mountPath: /data, readOnly: true", "mountPath: /data", "/data can be written"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_refused_in_words(mistake, tmp_path, capsys):
    base, right, wrong, words = MISTAKES[mistake]
    text = (FOLDER / base / "job.yaml").read_text()
    assert right in text
    status, told = refused(tmp_path, capsys, text.replace(right, wrong))
    assert status == 1, told
    assert words in told


def test_an_overlay_that_changes_a_limit_alone_is_refused(tmp_path, capsys):
    """The pod would lose its own cores, and no schema says so."""
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    shutil.copy(FOLDER / "job" / "job.yaml", overlay)
    patch = "- {op: replace, path: /spec/template/spec/containers/0/resources/limits/cpu, value: '16'}"
    (overlay / "kustomization.yaml").write_text(
        f"resources: [job.yaml]\npatches:\n  - target: {{kind: Job}}\n    patch: |\n      {patch}\n"
    )
    status, told = refused(tmp_path, capsys, rendered(overlay))
    assert status == 1
    assert "request and limit of cpu are 8 and 16" in told


def test_what_is_no_manifest_is_one_line(tmp_path, capsys):
    for text in ("a: [", "", "- 1"):
        path = tmp_path / "manifest.yaml"
        path.write_text(text)
        assert main([str(path)]) == 4
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main([str(tmp_path / "none.yaml")]) == 4


def test_the_indexed_job_has_a_pod_for_every_row_of_its_profile():
    (job,) = yaml.safe_load_all(rendered("profile"))
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    (profile,) = [one.partition("=")[2] for one in arguments if one.startswith("--profile=")]
    assert job["spec"]["completions"] == len(list(read_profile(ROOT / profile, columns())))


@pytest.mark.skipif(not (ROOT / "commands" / "train").is_dir(), reason="this checkout has no visionmark train")
def test_the_training_job_types_what_visionmark_train_reads():
    _, job = yaml.safe_load_all((FOLDER / "training" / "job.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert [*container["command"], container["args"][0]] == ["visionmark", "train"]
    known = (ROOT / "commands" / "train" / "arguments.py").read_text()
    for argument in container["args"][1:]:
        assert f'"{argument.partition("=")[0]}"' in known, argument


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("job-gpu", {"--device=cuda", "nvidia.com/gpu", "visionmark:cuda"}),
        ("profile-gpu", {"--device=cuda", "nvidia.com/gpu", "visionmark:cuda"}),
        ("training-gpu-kueue", {"--device=cuda", "nvidia.com/gpu", "kueue.x-k8s.io/queue-name", "suspend: true"}),
        ("profile-kueue", {"kueue.x-k8s.io/queue-name", "suspend: true", "--device=cpu"}),
        ("job-data", {"--data=/data/imagenet", "claimName: imagenet"}),
    ],
)
def test_an_overlay_changes_what_it_is_for(name, words):
    text = rendered(f"overlays/{name}")
    assert not [word for word in words if word not in text]
    assert not (name.endswith("gpu") and "--device=cpu" in text)
