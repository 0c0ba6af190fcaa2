"""The processor's counters of energy (RAPL), as the kernel's power capping folder shows them.

Zones overlap. A `package` counts its cores and its graphics, which are zones within it; `dram` stands within a package
in the folder, but is counted beside it; `psys` counts the whole board. Folders of the name `intel-rapl-mmio` show the
packages a second time. Source: the kernel's documentation, "Power Capping Framework", and Intel's manual, volume 3,
"RAPL Interfaces".
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("/sys/class/powercap")
PACKAGES, PSYS = "packages", "psys"
DOMAINS = (PACKAGES, PSYS)


class UnreadableZone(RuntimeError):
    """A zone that belongs to the whole cannot be read; the message names it."""


class _Zone:
    """One counter, which wraps round."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._file = folder / "energy_uj"
        self._wraps_at = self._number(folder / "max_energy_range_uj")
        self._before = self.read()

    def _number(self, file: Path) -> int:
        try:
            return int(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UnreadableZone(f"{file} ({self.name}): {reason}, and without it the sum would not be whole") from None

    def read(self) -> int:
        return self._number(self._file)

    def begin(self) -> None:
        self._before = self.read()

    def grown(self) -> int:
        """Return by how many microjoules the counter grew since it was asked last."""
        now = self.read()
        grown = (now - self._before) % (self._wraps_at + 1)
        self._before = now
        return grown


class Rapl:
    """The energy of the processors and their memory, or of the whole board."""

    def __init__(self, folder: Path = FOLDER, domain: str = PACKAGES) -> None:
        """Find the zones that make up the whole, each counted once.

        Args:
            folder: the kernel's power capping folder.
            domain: `packages` for every package and its memory; `psys` for the board alone.

        Raises:
            UnreadableZone: there are none, or one of them cannot be read.
        """
        self._zones = [_Zone(zone, name) for name, zone in _zones_of(folder, domain).items()]
        self._joules = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the zones that are counted."""
        return tuple(zone.name for zone in self._zones)

    def begin(self) -> None:
        """Count from now.

        Raises:
            UnreadableZone: a zone cannot be read.
        """
        self._joules = 0.0
        for zone in self._zones:
            zone.begin()

    def joules(self) -> float:
        """Return the joules since `begin`.

        Raises:
            UnreadableZone: a zone cannot be read.
        """
        self._joules += sum(zone.grown() for zone in self._zones) / 1e6
        return self._joules


def _zones_of(folder: Path, domain: str) -> dict[str, Path]:
    """Return the folders of the zones that make up a domain, by name.

    Raises:
        UnreadableZone: there are none, or a name cannot be read.
    """
    named = {zone: _name(zone) for zone in sorted(folder.glob("intel-rapl:[0-9]*"))}
    top = {zone: name for zone, name in named.items() if zone.name.count(":") == 1}
    found: dict[str, Path] = {}
    for zone, name in top.items():
        if domain == PSYS and name == PSYS:
            found[name] = zone
        if domain == PACKAGES and name.startswith("package"):
            found.setdefault(name, zone)
            for inner, kind in named.items():
                if inner.name.startswith(f"{zone.name}:") and inner.name.count(":") == 2 and kind == "dram":
                    found.setdefault(f"{name} dram", inner)
    if not found:
        others = f"; there is {', '.join(sorted(set(top.values())))}" if top else ""
        raise UnreadableZone(f"no RAPL counter of {domain} under {folder}{others}")
    return found


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UnreadableZone(f"{zone / 'name'}: {error.strerror}, so it is not known what the zone counts") from None
