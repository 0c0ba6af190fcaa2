"""Finding the plugin of OpenVINO that drives a device of this suite: `CPU`, `GPU`, or `GPU.n` among several.

OpenVINO calls an Intel GPU `GPU` where there is one, and `GPU.0`, `GPU.1` … where there are several. Its order need not
be that of torch.xpu, which may count an integrated GPU elsewhere, so that the cards are matched by their UUID.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.devices import Device

_GPU = "GPU"


@dataclass(frozen=True)
class Plugin:
    """A plugin of OpenVINO.

    Attributes:
        name: OpenVINO's name, None where it has none for the device.
        found_by: `name`, `uuid` or `order`: what tells that this is the device.
        reason: why there is none, None where there is one.
    """

    name: str | None
    found_by: str = "name"
    reason: str | None = None

    def ran(self, executed: str) -> bool:
        """Return whether a name in a compiled model's EXECUTION_DEVICES is this plugin's; GPU is told as GPU.0."""
        return executed == self.name or (self.name == _GPU and executed == f"{_GPU}.0")


def plugin_of(device: Device, core: Any) -> Plugin:
    """Return the plugin for a CPU or an Intel GPU.

    Args:
        device: the device, which is present.
        core: OpenVINO's core.

    Source: OpenVINO documentation, "GPU Device", section "Device Naming Convention", and the property DEVICE_UUID.
    """
    present = list(core.available_devices)
    if device.is_host:
        return Plugin("CPU") if "CPU" in present else _absent("CPU", present)
    gpus = [name for name in present if name == _GPU or name.startswith(f"{_GPU}.")]
    if not gpus:
        return _absent(_GPU, present)
    wanted = device.describe().get("uuid")
    uuids = {name: uuid for name in gpus if (uuid := _uuid(core, name))}
    if wanted and len(uuids) == len(gpus):
        found = [name for name, uuid in uuids.items() if uuid == wanted]
        if found:
            return Plugin(found[0], "uuid")
        listed = ", ".join(f"{name} ({uuid})" for name, uuid in uuids.items())
        return Plugin(None, reason=f"openvino does not find {device.name} ({wanted}), only {listed}")
    if device.index >= len(gpus):
        return _absent(f"{_GPU}.{device.index}", present)
    return Plugin(gpus[device.index], "order")


def put_on(host: Any, plugin: Plugin, core: Any) -> Any:
    """Return a copy of a tensor in the memory of a GPU. The call returns when the copy is done.

    Args:
        host: OpenVINO's tensor in the host's memory.
        plugin: the plugin of the GPU.
        core: OpenVINO's core.

    Source: OpenVINO documentation, "Remote Tensor API of GPU Plugin".
    """
    placed = core.get_default_context(plugin.name).create_tensor(host.element_type, host.shape, {})
    placed.copy_from(host)
    return placed


def _absent(name: str, present: list[str]) -> Plugin:
    return Plugin(None, reason=f"openvino finds no {name}, only {', '.join(present) or 'nothing'}")


def _uuid(core: Any, name: str) -> str | None:
    """Return a GPU's UUID in hexadecimal digits, or None where its driver does not tell it."""
    try:
        digits = str(core.get_property(name, "DEVICE_UUID")).replace("-", "").lower()
    except RuntimeError:  # the property is not supported
        return None
    return digits if len(digits) == 32 and digits.strip("0") else None
