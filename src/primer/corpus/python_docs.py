"""The text that every Python carries: its manual's topics and the docstrings of its standard library.

Read by AST from the running Python's folder, never imported; every docstring once. The order follows a hash
of the names, so that the held-out end of the text is a fair sample of it.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import inspect
import json
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from primer.assets import cache_dir, reading, replacing, sha256_of
from primer.corpus.document import Document
from primer.errors import SurroundingsError

LICENCE = "PSF-2.0"
ADDRESS = "https://docs.python.org/3/"
VERSION = 1
"""Raised whenever the same Python would give another text, so that no stale cache is read."""

_SKIPPED = {"distutils", "encodings", "ensurepip", "idlelib", "lib2to3", "test", "tests", "turtledemo"}
_TYPOGRAPHY = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "…": "...", "\xa0": " "}
)
_DRAWING = re.compile(r"^\s*(\||\+[-=])", re.MULTILINE)  # tables, boxes and trees made of characters
_SHORTEST = 40  # characters: below this a docstring says no more than its name
_WIDEST = 72  # characters of a heading with its arguments; longer ones are cut to "(...)"

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def build(stdlib: Path | None = None) -> Path:
    """The corpus as a `.jsonl` file in the cache, made at the first call. Its name holds its hash."""
    stdlib = stdlib or Path(sysconfig.get_path("stdlib"))
    key = hashlib.sha256(f"{VERSION}\n{sys.version}\n{stdlib}".encode()).hexdigest()[:12]
    stem = f"python-docs-{sys.version_info.major}.{sys.version_info.minor}-{key}"
    home = cache_dir() / "python-docs"
    for path in sorted(home.glob(f"{stem}-*.jsonl")):
        if path.stem == f"{stem}-{sha256_of(path)[:16]}":
            return path
    lines = [json.dumps({"id": document.id, "text": document.text}) for document in documents(stdlib)]
    if not lines:
        raise SurroundingsError(
            "this Python carries no sources of its standard library",
            str(stdlib),
            hint="name a text of your own",
        )
    content = "".join(f"{line}\n" for line in lines).encode()
    path = home / f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    with replacing(path) as file:
        file.write(content)
    return path


def documents(stdlib: Path) -> Iterator[Document]:
    """One document a manual topic and one a module, in an order that depends on nothing but their names."""
    collecting = gc.isenabled()
    gc.disable()  # a syntax tree has no cycles: looking for them costs a fifth of the time
    try:
        with warnings.catch_warnings(action="ignore"):  # others' odd escapes must not decide what is read
            found = [*_topics(stdlib / "pydoc_data" / "topics.py"), *_modules(stdlib)]
    finally:
        if collecting:
            gc.enable()
    return iter(sorted(found, key=lambda document: hashlib.sha256(document.id.encode()).digest()))


def _topics(path: Path) -> Iterator[Document]:
    """The chapters that `help("if")` shows: a file with one dictionary. Some hold others whole."""
    if not path.is_file():  # some distributions package it apart
        return
    chapters: dict[str, str] = {}
    for statement in _parse(path).body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and isinstance(statement.value, ast.Dict):
            chapters |= ast.literal_eval(statement.value)
    kept: list[str] = []
    for topic, raw in sorted(chapters.items(), key=lambda chapter: (-len(chapter[1]), chapter[0])):
        text = _clean(raw)
        if text and not any(text in longer for longer in kept):
            kept.append(text)
            yield Document(text, f"topic {topic}")


def _modules(stdlib: Path) -> Iterator[Document]:
    seen: set[str] = set()
    for name, path in _public_modules(stdlib):
        entries = []
        for heading, text in _docstrings(_parse(path), name):
            if text not in seen:
                seen.add(text)
                entries.append(f"{heading}\n\n{text}")
        if entries:
            yield Document("\n\n\n".join(entries), f"module {name}")


def _public_modules(stdlib: Path) -> list[tuple[str, Path]]:
    """(dotted name, file) of every module without a leading underscore, sorted."""
    found = []
    for folder, inner, files in os.walk(stdlib):
        # A dash is in no package's name, but in site-packages, lib-dynload and config-3.x-platform.
        inner[:] = [
            name for name in inner if name not in _SKIPPED and "-" not in name and name[0] not in "._"
        ]
        package = Path(folder).relative_to(stdlib).parts
        for file in files:
            stem, ending = os.path.splitext(file)
            if ending == ".py" and stem == "__init__":
                found.append((".".join(package), Path(folder, file)))
            elif ending == ".py" and not stem.startswith("_"):
                found.append((".".join((*package, stem)), Path(folder, file)))
    return sorted(found)


def _parse(path: Path) -> ast.Module:
    """The syntax tree, empty where the file is no Python (a template, say)."""
    with reading(path) as file:
        source = file.read()
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def _docstrings(node: ast.Module | _Definition, heading: str) -> Iterator[tuple[str, str]]:
    """(heading, docstring) of `node` and of all that is public in it, in the order of the file."""
    text = _clean(ast.get_docstring(node, clean=False) or "")
    if len(text) >= _SHORTEST:
        yield heading, text
    for child in node.body:
        if isinstance(child, _Definition) and (child.name.startswith("__") or child.name[0] != "_"):
            yield from _docstrings(child, _heading(child))


def _heading(node: _Definition) -> str:
    """As `help()` prints it: `class Name(Base)` or `name(arguments)`."""
    if isinstance(node, ast.ClassDef):
        inside = ", ".join(ast.unparse(base) for base in node.bases)
        name = f"class {node.name}"
    else:
        inside = ast.unparse(node.args)
        name = node.name
    heading = f"{name}({inside})" if inside or not name.startswith("class") else name
    return heading if len(heading) <= _WIDEST and _plain(heading) else f"{name}(...)"


def _clean(raw: str) -> str:
    """Printable ASCII without common indentation and drawings; empty where that cannot be had."""
    lines = inspect.cleandoc(raw.translate(_TYPOGRAPHY)).splitlines()
    paragraphs = re.split(r"\n{2,}", "\n".join(line.rstrip() for line in lines).strip())
    text = "\n\n".join(paragraph for paragraph in paragraphs if not _DRAWING.search(paragraph))
    return text if _plain(text.replace("\n", "")) else ""


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
