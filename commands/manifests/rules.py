"""What a schema cannot say of a manifest that measures: mistakes that make a number wrong, or lose it.

Each rule is a function that is given a Job's parts and yields a sentence for every problem. It knows no schema and no
file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Manifest = Mapping[str, Any]
EXIT_CODES = {1, 2, 3, 4, 5}
# A run ends within this time after SIGTERM; less grace would kill it while it writes.
LEAST_GRACE_S = 10
_WHOLE = re.compile(r"[1-9]\d*")
_MEMORY = re.compile(r"[1-9]\d*(Ki|Mi|Gi|Ti)")
_SHELLS = ("sh", "bash", "dash", "ash")


def problems_of(documents: Sequence[Manifest]) -> list[str]:
    """Return what is wrong with the Jobs among these documents, each as a sentence with the Job's name."""
    found = []
    for document in documents:
        if document.get("kind") != "Job":
            continue
        name = document.get("metadata", {}).get("name", "without a name")
        spec = document.get("spec") or {}
        pod = (spec.get("template") or {}).get("spec") or {}
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        rules = (
            _once(spec, pod),
            _failure_policy(spec, pod),
            _own_node(pod, labels),
            _own_cores(pod),
            _image(pod),
            _command(pod),
            _volumes(pod),
            _rank(spec, pod, labels, documents),
        )
        found += [f"Job {name}: {problem}" for rule in rules for problem in rule]
    return found


def _once(spec: Manifest, pod: Manifest) -> Iterator[str]:
    """A number is measured once, and a run that hangs or is stopped ends."""
    if pod.get("restartPolicy") != "Never":
        yield "restartPolicy is not Never: a container that failed would measure again in the same pod"
    is_indexed = spec.get("completionMode") == "Indexed"
    if spec.get("backoffLimit") != 0 and not (is_indexed and spec.get("backoffLimitPerIndex") == 0):
        yield "backoffLimit is not 0 (or backoffLimitPerIndex, with Indexed): a failed run would be repeated"
    for key in ("activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        if not spec.get(key):
            yield f"{key} is not set: the Job would hold its node, or stay, for ever"
    if (pod.get("terminationGracePeriodSeconds") or 0) < LEAST_GRACE_S:
        yield f"terminationGracePeriodSeconds is below {LEAST_GRACE_S}: a stopped run could not write what it has"
    security = pod.get("securityContext") or {}
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "runAsNonRoot and runAsUser are not set: clusters refuse pods that run as root"


def _failure_policy(spec: Manifest, pod: Manifest) -> Iterator[str]:
    names = {container.get("name") for container in pod.get("containers") or ()}
    covered: set[int] = set()
    is_drained = False
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        codes = rule.get("onExitCodes") or {}
        if codes.get("containerName") not in {None, *names}:
            yield f"podFailurePolicy names the container {codes['containerName']}, which is not there"
        elif rule.get("action") in ("FailJob", "FailIndex") and codes.get("operator") == "In":
            covered |= set(codes.get("values") or ())
        conditions = [one.get("type") for one in rule.get("onPodConditions") or ()]
        is_drained |= rule.get("action") == "Ignore" and "DisruptionTarget" in conditions
        if rule.get("action") == "FailIndex" and "backoffLimitPerIndex" not in spec:
            yield "FailIndex needs backoffLimitPerIndex"
    if missing := sorted(EXIT_CODES - covered):
        yield f"podFailurePolicy does not fail on the exit codes {', '.join(map(str, missing))}"
    if not is_drained:
        yield "podFailurePolicy does not ignore DisruptionTarget: a drained node would count as a failed run"


def _own_node(pod: Manifest, labels: Manifest) -> Iterator[str]:
    if not pod.get("nodeSelector"):
        yield "nodeSelector is not set: the number would be of any node"
    if not pod.get("tolerations"):
        yield "tolerations are not set: nodes that are tainted for measuring refuse the pod"
    anti = (pod.get("affinity") or {}).get("podAntiAffinity") or {}
    for term in anti.get("requiredDuringSchedulingIgnoredDuringExecution") or ():
        wanted = (term.get("labelSelector") or {}).get("matchLabels") or {}
        if term.get("topologyKey") == "kubernetes.io/hostname" and wanted and wanted.items() <= labels.items():
            return
    yield "no required podAntiAffinity to its own labels on kubernetes.io/hostname: two runs could share a node"


def _own_cores(pod: Manifest) -> Iterator[str]:
    """Only a pod whose containers all ask for whole CPUs, as much as their limit, is given cores of its own."""
    for container in [*(pod.get("initContainers") or ()), *(pod.get("containers") or ())]:
        name = container.get("name")
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        for key in sorted({"cpu", "memory", *requests, *limits}):
            if key not in requests or key not in limits or str(requests[key]) != str(limits[key]):
                told = f"{requests.get(key)} and {limits.get(key)}"
                yield f"{name}: request and limit of {key} are {told}, and have to be equal"
        if not _WHOLE.fullmatch(str(limits.get("cpu"))):
            yield f"{name}: {limits.get('cpu')} CPUs are no whole number: it would share its cores"
        if not _MEMORY.fullmatch(str(limits.get("memory"))):
            yield f"{name}: {limits.get('memory')} of memory is no whole number of Ki, Mi, Gi or Ti"


def _image(pod: Manifest) -> Iterator[str]:
    for container in pod.get("containers") or ():
        image = str(container.get("image"))
        tag = image.rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in image and tag in ("", "latest"):
            yield f"the image {image} has no tag that stays: say which version is measured"


def _command(pod: Manifest) -> Iterator[str]:
    for container in pod.get("containers") or ():
        command = [str(one) for one in container.get("command") or ()]
        arguments = [str(one) for one in container.get("args") or ()]
        if not command:
            yield f"{container.get('name')}: no command: that of the image would measure what it likes"
        elif command[0].rpartition("/")[2] in _SHELLS:
            yield f"{container.get('name')}: {command[0]} would read the values as a script, and keep SIGTERM to itself"
        if command[:1] == ["pytest"]:
            for option in ("--journal", "--output-dir"):
                if not any(one.startswith(f"{option}=/results/") for one in arguments):
                    yield f"no {option}=/results/…: a pod that is killed would leave no number"


def _volumes(pod: Manifest) -> Iterator[str]:
    volumes = {volume.get("name"): volume for volume in pod.get("volumes") or ()}
    for container in pod.get("containers") or ():
        mounts = container.get("volumeMounts") or ()
        named = [mount.get("name") for mount in mounts]
        for name in [*volumes, *(one for one in named if one not in volumes)]:
            if name not in volumes:
                yield f"the volume {name} is mounted and not there"
            elif named.count(name) != 1:
                yield f"the volume {name} is mounted {named.count(name)} times, and has to be once"
        at = {mount.get("mountPath"): mount for mount in mounts}
        results = at.get("/results", {})
        claim = volumes.get(results.get("name"), {}).get("persistentVolumeClaim") or {}
        if not claim or results.get("readOnly") or claim.get("readOnly"):
            yield "/results is no claim that can be written: the numbers would go with the pod"
        shared = volumes.get(at.get("/dev/shm", {}).get("name"), {}).get("emptyDir") or {}
        if shared.get("medium") != "Memory" or not shared.get("sizeLimit"):
            yield "/dev/shm is no emptyDir of medium Memory with a sizeLimit: it would have 64 MiB"
        data = at.get("/data")
        if data is not None and not data.get("readOnly"):
            yield "/data can be written: a run could change what the next one measures"


def _rank(spec: Manifest, pod: Manifest, labels: Manifest, documents: Sequence[Manifest]) -> Iterator[str]:
    """Indexed Jobs: rows one after the other, ranks all at once with a headless Service."""
    if spec.get("completionMode") != "Indexed":
        return
    count, parallelism, subdomain = spec.get("completions"), spec.get("parallelism"), pod.get("subdomain")
    if not count:
        yield "completions is not set: it is the number of rows, or of nodes"
    if subdomain is None:
        if parallelism != 1:
            yield f"parallelism is {parallelism}, and has to be 1: rows would run beside each other"
        return
    if parallelism != count:
        yield f"parallelism is {parallelism} and completions {count}: ranks would wait for ranks that never start"
    services = [one for one in documents if one.get("kind") == "Service"]
    service = next((one.get("spec") or {} for one in services if one["metadata"]["name"] == subdomain), None)
    if service is None:
        yield f"there is no Service {subdomain}, which its subdomain names: ranks would not find each other"
        return
    if service.get("clusterIP") != "None" or service.get("publishNotReadyAddresses") is not True:
        yield f"the Service {subdomain} is not headless, or does not publish addresses that are not ready"
    if not service.get("selector") or not service["selector"].items() <= labels.items():
        yield f"the Service {subdomain} selects other pods"
