"""Which of the collector's devices are those of a case: energy and throttling of others are not its own.

The collector sees every device of the machine under the driver's own numbers. A process may see fewer of them, in
another order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class OwnDevice:
    """A device on which a case runs.

    Attributes:
        kind: the kind of device, such as `cpu` or `cuda`.
        index: the index among the devices of its kind that this process sees.
        uuid: the driver's UUID of the device, or None if it is not known.
    """

    kind: str
    index: int = 0
    uuid: str | None = None

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


class UnknownDevice(LookupError):
    """It cannot be told which of the collector's devices a device is; the message says why."""


def sampled_name(device: OwnDevice, sampled: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Return the collector's name of a device, such as `gpu1` for `cuda:0`.

    Args:
        device: the device of the case.
        sampled: the collector's devices: for each name the UUID of a GPU, or its number for xpu-smi.
        variables: the environment of the process that runs the case.

    Raises:
        UnknownDevice: none of them is the device, or it cannot be told which.
    """
    if device.kind == "cpu":
        return "cpu"
    if device.kind == "cuda":
        cards = {name: uuid for name, uuid in sampled.items() if name.startswith("gpu")}
        return _nvidia_name(device, cards, variables)
    if device.kind == "xpu":
        chosen = [name for name in ("ZE_AFFINITY_MASK", "ONEAPI_DEVICE_SELECTOR") if variables.get(name)]
        if chosen:
            raise UnknownDevice(f"with {chosen[0]} it cannot be told which device of xpu-smi {device} is")
        names = [name for name, number in sampled.items() if name.startswith("xpu") and number == str(device.index)]
        if names:
            return names[0]
    raise UnknownDevice(f"no sensor samples {device}")


def _nvidia_name(device: OwnDevice, cards: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Return NVML's name of a GPU: by its UUID, else by the variables that choose and order what CUDA sees."""
    if not cards:
        raise UnknownDevice(f"no sensor samples {device}")
    if device.uuid is not None:
        return _by_uuid(device, device.uuid, cards, is_prefix=False)
    visible = [entry.strip() for entry in variables.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry.strip()]
    if visible and device.index >= len(visible):
        raise UnknownDevice(f"CUDA_VISIBLE_DEVICES has no entry for {device}")
    entry = visible[device.index] if visible else str(device.index)
    if not entry.isdigit():
        return _by_uuid(device, entry, cards, is_prefix=True)
    if len(cards) > 1 and variables.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise UnknownDevice(
            f"CUDA and the driver may number {len(cards)} GPUs differently, so it cannot be told which {device} is: "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID"
        )
    if f"gpu{entry}" not in cards:
        raise UnknownDevice(f"the driver has no GPU {entry}, which {device} is by CUDA_VISIBLE_DEVICES")
    return f"gpu{entry}"


def _by_uuid(device: OwnDevice, uuid: str, cards: Mapping[str, str], *, is_prefix: bool) -> str:
    wanted = _bare(uuid)
    found = [
        name for name, card in cards.items() if (_bare(card).startswith(wanted) if is_prefix else _bare(card) == wanted)
    ]
    if len(found) != 1:
        raise UnknownDevice(f"{len(found)} GPUs of the driver have the UUID {uuid} of {device}: is it a part of one?")
    return found[0]


def _bare(uuid: str) -> str:
    return uuid.lower().removeprefix("gpu-")


def sampled_names(
    devices: Sequence[OwnDevice], sampled: Mapping[str, str], variables: Mapping[str, str]
) -> tuple[frozenset[str], dict[str, str]]:
    """Return the collector's names of a case's devices, and for each device without one the reason."""
    names: set[str] = set()
    unknown: dict[str, str] = {}
    for device in devices:
        try:
            names.add(sampled_name(device, sampled, variables))
        except UnknownDevice as error:
            unknown[str(device)] = str(error)
    return frozenset(names), unknown
