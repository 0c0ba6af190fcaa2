"""The catalogue of the models that can be measured, with their weights, inputs and known gaps.

The row types are here, and the reader of `catalog.yaml`. Nothing here may depend on torch, devices or pytest: test
collection reads the catalogue, so that importing this module has to be quick, and a model library is imported only for
a model that is asked for by that library's name.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml

from models.variants import ALIASES, SEPARATOR, NoVariant, Variant, parse_variant

CATALOG_PATH = Path(__file__).with_name("catalog.yaml")

ModelSource = Literal["timm", "torchvision", "visionmark"]
TaskName = Literal["classify", "detect"]
GapKind = Literal["notimpl", "notyet", "never"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# How far a measured accuracy may lie below what it is compared with, in per cent of the latter.
# Source: MLPerf inference rules, 99% of fp32.
MARGIN_PCT = 1.0

_REQUIRED = {"source", "weights", "size", "crop_pct", "interpolation"}
_OPTIONAL = {"task", "arch", "crop_mode", "short_side", "mean", "std", "published", "margin_pct", "gaps"}
# The scores of each task, in the order in which a row gives them.
SCORES: Mapping[TaskName, tuple[str, ...]] = {"classify": ("top1", "top5"), "detect": ("ap",)}
# Scores that a row may give beside those.
FURTHER_SCORES: Mapping[TaskName, tuple[str, ...]] = {"classify": (), "detect": ("ap50",)}
_GAP_REQUIRED = {"kind", "reason"}
_GAP_OPTIONAL = {"device", "precision", "engine"}


# The rows that take a width in per cent at the end of their name: ssd_mobilenet_v1_050 has half the channels.
_WIDTH = re.compile(r"(?P<base>ssd_mobilenet_v1)_(?!000)\d{3}")


class CatalogError(ValueError):
    """The catalogue cannot be trusted; the message names the row and the key."""


class UnknownModel(ValueError):
    """There is no such model; the message says what there is instead."""


@dataclass(frozen=True)
class InputSpec:
    """The input that a set of weights was trained for.

    Attributes:
        size: height and width in pixels.
        crop_pct: the centre crop as a share of the resized image, in (0, 1].
        interpolation: the resampling of the resize, by the source library's name.
        mean: the mean of each RGB channel, on inputs in 0..1.
        std: the standard deviation of each RGB channel, on inputs in 0..1.
        crop_mode: `center`, `squash` or `border`, with timm's meaning; or `pad`: the image is resized until its short
            side is `short_side`, or it fills the input, and lies at the top left of it with nothing beside it.
        short_side: of `pad`, the short side in pixels; else None.
        resampler: what resizes an image: `Pillow`, with which published accuracies were measured, or `torch`, whose
            antialiased resampling of bytes is faster and differs by a few levels in a few pixels.
    """

    size: tuple[int, int]
    crop_pct: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_mode: str = "center"
    short_side: int | None = None
    resampler: Literal["Pillow", "torch"] = "Pillow"


@dataclass(frozen=True)
class Gap:
    """A combination that is known not to run, and why. A device, precision or engine of None means any."""

    kind: GapKind
    reason: str
    device: str | None = None
    precision: str | None = None
    engine: str | None = None

    def covers(self, device: str, precision: str, engine: str) -> bool:
        """Return whether this gap applies; a gap on `cuda` also covers `cuda:1`."""
        return (
            self.device in (None, device, device.partition(":")[0])
            and self.precision in (None, precision)
            and self.engine in (None, engine)
        )


@dataclass(frozen=True)
class ModelSpec:
    """One model: a row of the catalogue, or a model of a library.

    Attributes:
        name: the model's name as in a case.
        source: the library that has the architecture.
        arch: the architecture's name in that library.
        weights: the library's tag of the trained weights, None if none exist.
        input: the input that the weights were trained for.
        task: what the model does.
        published: for each score, such as `top1` on ImageNet-1k or `ap` on COCO val2017, the published value of those
            weights in per cent; empty if none is known.
        margin_pct: how far a measured score may lie below what it is compared with, in per cent of the latter.
        gaps: what is known not to run.
        variant: how the network differs from that of the library; None for that of the library.
        made_of: the tag of weights of the row that a variant is made of.
    """

    name: str
    source: ModelSource
    arch: str
    weights: str | None
    input: InputSpec
    task: TaskName = "classify"
    published: Mapping[str, float] = field(default_factory=dict)
    margin_pct: float = MARGIN_PCT
    gaps: tuple[Gap, ...] = ()
    variant: Variant | None = None
    made_of: str | None = None

    @property
    def network_weights(self) -> str | None:
        """The tag of the weights whose network and input are the row's; of a variant those of its base."""
        return self.weights if self.variant is None else self.made_of


def load_catalog(path: Path = CATALOG_PATH) -> dict[str, ModelSpec]:
    """Read a catalogue file and return the row of each model name, in the file's order.

    Raises:
        CatalogError: if a key is unknown, missing or mistyped, a value is bad, or a row is repeated.
        OSError: if the file cannot be read.
    """
    rows = _mapping(_read_yaml(path), f"{path.name}: the catalogue")
    return {name: _parse_row(name, row) for name, row in rows.items()}


def find_spec(name: str, catalog: Mapping[str, ModelSpec]) -> ModelSpec:
    """Return the catalogue row of that name, or a model of a library: `timm:NAME[.TAG]`, `torchvision:NAME[.TAG]`.

    A row of an architecture that is made in several widths is also found with one at its end.

    Raises:
        UnknownModel: if there is neither; the message names the closest that exist.
    """
    library, colon, arch = name.partition(":")
    if name in catalog:
        return catalog[name]
    if SEPARATOR in name:
        return _variant_spec(name, catalog)
    if (match := _WIDTH.fullmatch(name)) and match["base"] in catalog:
        return replace(catalog[match["base"]], name=name, arch=name, weights=None, published={})
    if colon and library == "timm":
        return _timm_spec(name, arch)
    if colon and library == "torchvision":
        return _torchvision_spec(name, arch)
    raise UnknownModel(
        f"no model {name!r} in the catalogue{_hint(name, catalog)}; "
        "timm:NAME and torchvision:NAME take any model of those libraries"
    )


def _variant_spec(name: str, catalog: Mapping[str, ModelSpec]) -> ModelSpec:
    """Return the row of a variant, whose network is built to see whether there can be such a one."""
    from models.build import require_buildable

    try:
        base_name, variant = parse_variant(name)
        base = find_spec(base_name, catalog)
        aliased = ALIASES.get(base_name, base_name).partition(SEPARATOR)[0]
        made_of = base if aliased == base_name else find_spec(aliased, catalog)
        spec = replace(
            base,
            name=variant.name_of(base_name),
            source=made_of.source,
            arch=made_of.arch,
            weights=None,
            published={},
            variant=variant,
            made_of=made_of.weights,
        )
        require_buildable(spec)
    except NoVariant as error:
        raise UnknownModel(str(error)) from None
    return spec


def _timm_spec(name: str, arch_tag: str) -> ModelSpec:
    import timm
    from timm.data import resolve_data_config

    arch, _, tag = arch_tag.partition(".")
    if not timm.is_model(arch):
        raise UnknownModel(f"timm has no model {arch!r}{_hint(arch, timm.list_models())}")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{arch}.*")]
    if tag and tag not in tags:
        raise UnknownModel(f"timm's {arch} has no weights {tag!r}; it has: {', '.join(tags) or 'none'}")
    config: Any = timm.get_pretrained_cfg(arch_tag)
    fields = config.to_dict() if config else {}
    data: dict[str, Any] = resolve_data_config(pretrained_cfg=fields)
    channels, height, width = data["input_size"]
    if channels != 3 or height != width:
        raise UnknownModel(f"{name} takes {channels}x{height}x{width} inputs; only square RGB is measured")
    trained_input = InputSpec(
        size=(height, width),
        crop_pct=data["crop_pct"],
        interpolation=data["interpolation"],
        mean=_triple(data["mean"]),
        std=_triple(data["std"]),
        crop_mode=data["crop_mode"],
    )
    weights = config.tag or "" if config and config.has_weights else None
    return ModelSpec(name, "timm", arch, weights, trained_input)


def _torchvision_spec(name: str, arch_tag: str) -> ModelSpec:
    from importlib import import_module

    arch, _, tag = arch_tag.partition(".")
    models = import_module("torchvision.models")
    detectors = models.list_models(module=models.detection)
    if arch not in (available := [*models.list_models(module=models), *detectors]):
        raise UnknownModel(f"torchvision has no model {arch!r} that classifies or detects{_hint(arch, available)}")
    of_arch = models.get_model_weights(arch)
    known = of_arch.__members__
    # V2 stands for IMAGENET1K_V2, as torchvision's own documentation calls the sets
    full = next((one for one in (tag or "DEFAULT", f"IMAGENET1K_{tag}", f"COCO_{tag}") if one in known), None)
    if full is None:
        raise UnknownModel(f"torchvision's {arch} has no weights {tag!r}; it has: {', '.join(of_arch.__members__)}")
    weights = known[full]
    if arch in detectors:
        return _torchvision_detector(name, arch, weights)
    return ModelSpec(name, "torchvision", arch, weights.name, torchvision_input(weights.transforms()))


def _torchvision_detector(name: str, arch: str, weights: Any) -> ModelSpec:
    """Return the row of a detector, whose input is that of the transform inside torchvision's network."""
    from importlib import import_module

    networks = import_module("models.detectors.torchvision_networks")
    try:
        found = networks.input_of(networks.create(arch))
    except networks.UnknownDetector as error:
        raise UnknownModel(f"{name}: {error}") from None
    published = {"ap": float(weights.meta["_metrics"]["COCO-val2017"]["box_map"])}
    return ModelSpec(name, "torchvision", arch, weights.name, found, "detect", published)


def torchvision_input(preset: Any) -> InputSpec:
    """Return the input that a torchvision evaluation preset (`weights.transforms()`) makes."""
    (size,), (resize,) = preset.crop_size, preset.resize_size
    return InputSpec((size, size), size / resize, preset.interpolation.value, _triple(preset.mean), _triple(preset.std))


# libyaml's is ten times as fast, and not in every build of PyYAML.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _read_yaml(path: Path) -> object:
    loader = _LOADER(path.read_text(encoding="utf-8"))
    try:
        root = loader.get_single_node()
        _reject_repeated_keys(root, path.name)
        return loader.construct_document(root) if root else {}
    except yaml.YAMLError as error:
        raise CatalogError(f"{path.name} is not valid YAML: {error}") from error
    finally:
        loader.dispose()


def _reject_repeated_keys(node: yaml.Node | None, place: str) -> None:
    # In YAML the last of two equal keys wins silently.
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            raise CatalogError(f"{place}: {key.value!r} is there twice (line {key.start_mark.line + 1})")
        seen.add(key.value)
        _reject_repeated_keys(value, f"{place}: row {key.value!r}")


def _parse_row(name: str, value: object) -> ModelSpec:
    place = f"row {name!r}"
    row = _mapping(value, place)
    _check_keys(row, _REQUIRED, _OPTIONAL, place)
    weights = None if row["weights"] is None else _text(row, "weights", place)
    task = cast(TaskName, _one_of(row, "task", place, get_args(TaskName))) if "task" in row else "classify"
    published = _published(row.get("published"), SCORES[task], FURTHER_SCORES[task], place)
    if published and weights is None:
        raise CatalogError(f"{place}: 'published' is of trained weights, and the row names none")
    return ModelSpec(
        name=name,
        source=cast(ModelSource, _one_of(row, "source", place, get_args(ModelSource))),
        arch=_text(row, "arch", place) if "arch" in row else name,
        weights=weights,
        input=InputSpec(
            size=_pixels(row, "size", place),
            crop_pct=_number(row, "crop_pct", place, 1),
            interpolation=_text(row, "interpolation", place),
            mean=_channels(row, "mean", place) if "mean" in row else IMAGENET_MEAN,
            std=_channels(row, "std", place) if "std" in row else IMAGENET_STD,
            crop_mode=_one_of(row, "crop_mode", place, ("center", "squash", "border", "pad"))
            if "crop_mode" in row
            else "center",
            short_side=_pixels(row, "short_side", place)[0] if "short_side" in row else None,
        ),
        task=task,
        published=published,
        margin_pct=_number(row, "margin_pct", place, 100) if "margin_pct" in row else MARGIN_PCT,
        gaps=_parse_gaps(row.get("gaps", []), place),
    )


def _parse_gaps(value: object, place: str) -> tuple[Gap, ...]:
    if not isinstance(value, list):
        raise CatalogError(f"{place}: 'gaps' must be a list, not {value!r}")
    return tuple(_parse_gap(item, f"{place}, gap {number}") for number, item in enumerate(value, start=1))


def _parse_gap(value: object, place: str) -> Gap:
    gap = _mapping(value, place)
    _check_keys(gap, _GAP_REQUIRED, _GAP_OPTIONAL, place)
    kind = cast(GapKind, _one_of(gap, "kind", place, get_args(GapKind)))
    return Gap(kind, **{key: _text(gap, key, place) for key in gap if key != "kind"})


def _mapping(value: object, place: str) -> dict[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CatalogError(f"{place} must be a mapping of names, not {value!r}")
    return value


def _check_keys(found: Mapping[str, object], required: set[str], optional: set[str], place: str) -> None:
    for key in found:
        if key not in required | optional:
            raise CatalogError(f"{place}: unknown key {key!r}{_hint(key, required | optional)}")
    if missing := sorted(required - found.keys()):
        raise CatalogError(f"{place}: missing {', '.join(map(repr, missing))}")


def _text(row: Mapping[str, object], key: str, place: str) -> str:
    if not isinstance(value := row[key], str) or not value.strip():
        raise CatalogError(f"{place}: {key!r} must be a text, not {value!r}")
    return value


def _one_of(row: Mapping[str, object], key: str, place: str, allowed: tuple[str, ...]) -> str:
    if (value := _text(row, key, place)) not in allowed:
        raise CatalogError(f"{place}: {key!r} must be one of {', '.join(allowed)}, not {value!r}")
    return value


def _published(value: object, scores: tuple[str, ...], further: tuple[str, ...], place: str) -> dict[str, float]:
    if value is None:
        return {}
    given = _mapping(value, f"{place}, published")
    _check_keys(given, set(scores), set(further), f"{place}, published")
    return {name: _number(given, name, f"{place}, published", 100) for name in (*scores, *further) if name in given}


def _pixels(row: Mapping[str, object], key: str, place: str) -> tuple[int, int]:
    """Return height and width, given as a whole number for both or as a list of the two."""
    value = row[key]
    height, width = value if isinstance(value, list) and len(value) == 2 else (value, value)
    if type(height) is not int or type(width) is not int or min(height, width) <= 0:
        raise CatalogError(f"{place}: {key!r} must be a whole number of pixels, or [height, width], not {value!r}")
    return height, width


def _number(row: Mapping[str, object], key: str, place: str, top: float) -> float:
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= top:
        raise CatalogError(f"{place}: {key!r} must be a number above 0, at most {top}, not {value!r}")
    return float(value)


def _channels(row: Mapping[str, object], key: str, place: str) -> tuple[float, float, float]:
    value = row[key]
    if not isinstance(value, list) or len(value) != 3 or not all(type(item) in (int, float) for item in value):
        raise CatalogError(f"{place}: {key!r} must be three numbers, one a channel, not {value!r}")
    return _triple(value)


def _triple(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _hint(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known names nearest in spelling; if none is near, a looser match is used."""
    close = difflib.get_close_matches(name, known, n=3) or difflib.get_close_matches(name, known, n=3, cutoff=0.1)
    return f" (did you mean {' or '.join(close)}?)" if close else ""
