"""Random weights that were made alive once, and are loaded by later runs and by the other processes of a run."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from harness.artefacts.cache import ArtefactCache, CacheError, instructions, key_of, sources_of
from models import build

_FILE = "state.pt"


class KeptWeights:
    """Makes a module alive, or gives it the state that it had when it was made so before. See `build.Kept`."""

    def __init__(self, cache: ArtefactCache) -> None:
        """Keep the states in this cache."""
        self._cache = cache

    def obtain(self, module: nn.Module, name: str, make: Callable[[], None]) -> None:
        """Have `make` change the module, or load what it made before of the same module.

        A cache that cannot be written keeps nothing, and nothing else depends on it.

        Args:
            module: the module with its first weights, which is changed in place.
            name: what else decides the result, such as the size of the images that `make` uses.
            make: changes the module.
        """
        is_made = False

        def write(folder: Path) -> None:
            nonlocal is_made
            make()
            is_made = True
            held = io.BytesIO()
            torch.save(module.state_dict(), held)  # to a full disk it would raise RuntimeError, as anything else does
            (folder / _FILE).write_bytes(held.getbuffer())

        key = key_of(
            "alive weights",
            module,
            libraries=(),
            sources=sources_of(build.__file__),  # a detector makes its heads alive by itself
            name=name,
            instructions=instructions(),
        )
        try:
            artefact = self._cache.obtain(key, write)
        except (CacheError, OSError):
            if not is_made:
                make()
            return
        if not is_made:
            module.load_state_dict(torch.load(artefact.folder / _FILE, weights_only=True))
