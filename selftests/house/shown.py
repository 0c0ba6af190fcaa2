"""The commands that the documents show, as the words that a shell would make of them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

import yaml

from selftests.inside import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "deploy/docker/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PROGRAMS = ("pytest", "visionmark")
# What make hands to pytest as it is.
TAKES_ARGS = {"bench", "best", "serve", "selftest"}
# What stands for a value of the reader's own, and a value of its kind. The longest first.
PLACEHOLDERS = {
    "YOUR_MODEL": "resnet50", "CHECKOUT/": "", "HOST:PORT": "host:6379", "JOURNAL": "rows.jsonl", "NAME": "resnet50",
    "COCO": "coco", "FILE": "weights.safetensors", "PATH": "place", "DIR": "images", "OUT": "out", "$G": "cpu",
    "$R": "-q", "N": "8",
}  # fmt: skip
_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
_INDENTED = re.compile(r"^    .*\S$", re.M)


@dataclass(frozen=True)
class Shown:
    """A command of a page: the program's name and the words behind it."""

    page: str
    program: str
    words: tuple[str, ...]

    def __str__(self):
        return f"{self.page}: {shlex.join((self.program, *self.words))}"


def shown_in(page, text):
    """Every command of `PROGRAMS` in a page: of blocks, of code in a line, and of the scripts of a CI's YAML."""
    lines = []
    for _, language, block in _FENCED.findall(text):
        if language in ("yaml", "yml"):
            lines += scripts_of(yaml.safe_load(block))
        elif language in ("", "sh", "bash", "console"):
            lines.append(block)
    text = _FENCED.sub("", text)
    lines += _joined("\n".join(_INDENTED.findall(text))).splitlines()
    prose = _INDENTED.sub("", text)
    # in prose a name alone is no command
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    lines += [span for span in spans if re.match(r"(\S+=\S* )*(pytest|visionmark|make) \S", span)]
    return [
        Shown(page, *command) for line in lines for one in _joined(line).splitlines() for command in commands_of(one)
    ]


def scripts_of(tree):
    """Every script in the YAML of GitHub Actions (`run`) or GitLab (`script`, `before_script`, `after_script`)."""
    if isinstance(tree, list):
        return [found for one in tree for found in scripts_of(one)]
    if not isinstance(tree, dict):
        return []
    found = []
    for key, value in tree.items():
        if key == "run" and isinstance(value, str):
            found.append(value)
        elif key in ("script", "before_script", "after_script"):
            found += [value] if isinstance(value, str) else value
        else:
            found += scripts_of(value)
    return found


def commands_of(line):
    """The programs that a line of a shell calls, each with its words. Behind two spaces stands what a command does."""
    line = re.split(r"(?<=\S) {2,}(?=\S)|\s#\s", line.strip())[0]
    line = re.sub(r"\$\((?:[^()]|\([^()]*\))*\)", "x", line)
    line = re.sub(r"(?<!\S)\[(--[^]]*)\]", r"\1", line)  # [--an-option VALUE]
    line = re.sub(r"(?<=[A-Z ])\[,?[A-Za-z ]+\]", "", line).replace("…", " ")  # NAME[,NAME], [ARGUMENTS]
    found = []
    for words in _simple_commands(line):
        if words[0] == "make":
            given = [word.partition("=")[2] for word in words if word.startswith("ARGS=")]
            if given and TAKES_ARGS & set(words):
                found.append(("pytest", tuple(map(_filled, shlex.split(given[0])))))
            continue
        for program in PROGRAMS:
            if program in words:
                found.append((program, tuple(map(_filled, words[words.index(program) + 1 :]))))
                break
    return found


def _joined(text):
    """Lines that end in a backslash are one with the next."""
    return re.sub(r"\\\n\s*", "", text)


def _simple_commands(line):
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    command = []
    for word in lexer:
        if set(word) <= set(";|&<>"):
            if command:
                yield command
            command = []
        else:
            command.append(word)
    if command:
        yield command


def _filled(word):
    for name, value in PLACEHOLDERS.items():
        whole = "" if name.endswith("/") else r"(?![A-Za-z_])"
        word = re.sub(rf"(?<![A-Za-z_]){re.escape(name)}{whole}", value, word)
    return re.sub(r"\$\w+", "8", word)  # a variable of the reader's shell, of which only a number always fits
