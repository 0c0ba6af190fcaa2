"""`visionmark manifests FILE …`: check Kubernetes manifests against the schemas and against the rules of measuring.

The schemas are those of every Kubernetes version from 1.29 that the package kubernetes-validate knows; unknown keys are
refused. What a schema cannot say, such as that requests equal limits, is in `commands.manifests.rules`. `-` reads what
`kubectl kustomize` prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from commands.manifests.rules import problems_of

OLDEST = (1, 29)
WRONG, USAGE_ERROR = 1, 4


def main(arguments: Sequence[str]) -> int:
    """Check the files and print every problem, a line each.

    Returns:
        The exit status: 0; 1 if a manifest has a problem; 4 if a file cannot be read or a package is missing.
    """
    parser = argparse.ArgumentParser(prog="visionmark manifests", allow_abbrev=False, description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML files; - is standard input")
    parser.add_argument("--oldest-only", action="store_true", help="only the oldest and the newest version's schemas")
    asked = parser.parse_args(arguments)
    try:
        versions = schema_versions()
    except ImportError:
        print("visionmark manifests: no kubernetes-validate: pip install -r requirements/pipeline.txt", file=sys.stderr)
        return USAGE_ERROR
    found = 0
    for name in asked.files:
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
            documents = [one for one in yaml.safe_load_all(text) if one is not None]
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            told = " ".join(str(error).split())
            print(f"visionmark manifests: {name}: {told}; give a YAML file", file=sys.stderr)
            return USAGE_ERROR
        if not all(isinstance(one, dict) for one in documents) or not documents:
            print(f"visionmark manifests: {name}: holds no manifest; give a YAML file of them", file=sys.stderr)
            return USAGE_ERROR
        chosen = [versions[0], versions[-1]] if asked.oldest_only else versions
        for problem in [*_against_schemas(documents, chosen), *problems_of(documents)]:
            found += 1
            print(f"{name}: {problem}")
    return WRONG if found else 0


def schema_versions() -> list[str]:
    """Return the newest patch of every Kubernetes version from `OLDEST` whose schemas are installed, oldest first.

    Raises:
        ImportError: the package kubernetes-validate is not installed.
    """
    from kubernetes_validate.utils import all_versions

    newest: dict[tuple[int, ...], str] = {}
    for text in all_versions():
        version = tuple(map(int, text.split(".")))
        if version[:2] >= OLDEST:
            newest[version[:2]] = text
    return list(newest.values())


def _against_schemas(documents: Sequence[dict[str, Any]], versions: Sequence[str]) -> Iterator[str]:
    """Yield what the schemas refuse, once a document, with the first version that refuses it."""
    import kubernetes_validate

    for document in documents:
        if not {"apiVersion", "kind"} <= document.keys():
            yield "a document without apiVersion and kind is no manifest"
            continue
        for version in versions:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                where = ".".join(map(str, error.path))
                yield f"{document.get('kind')}: {where}: {error.message} (schema of {version})"
                break
            except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
                yield f"{document.get('kind')}: {error.message} (schema of {version})"
                break
