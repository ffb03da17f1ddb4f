"""The text that every Python carries: its manual's topics and the docstrings of its standard library.

Read by AST from the running Python's folder, never imported; every docstring once. The order follows a hash
of the names, so that the held-out end of the text is a fair sample of it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from primer.assets import cache_dir, replacing, sha256_of
from primer.corpus.document import Document
from primer.errors import SurroundingsError

LICENCE = "PSF-2.0"
ADDRESS = "https://docs.python.org/3/"
VERSION = 1
"""Raised whenever the same Python would give another text, so that no stale cache is read."""

_SKIPPED = {
    "__phello__", "dist-packages", "distutils", "encodings", "ensurepip", "idlelib", "lib2to3", "pydoc_data",
    "site-packages", "test", "tests", "turtledemo",
}  # fmt: skip
_TYPOGRAPHY = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "--", "…": "...", "\xa0": " "}
)
_SHORTEST = 40  # characters: below this a docstring says no more than its name


def build(folder: Path | None = None) -> Path:
    """The corpus as a `.jsonl` file in the cache, made at the first call. Its name holds its hash."""
    stdlib = folder or Path(sysconfig.get_path("stdlib"))
    key = hashlib.sha256(f"{VERSION}\n{sys.version}\n{stdlib}".encode()).hexdigest()[:12]
    stem = f"python-docs-{sys.version_info.major}.{sys.version_info.minor}-{key}"
    home = cache_dir() / "python-docs"
    for path in sorted(home.glob(f"{stem}-*.jsonl")):
        if path.stem.endswith(f"-{sha256_of(path)[:16]}"):
            return path
    lines = [json.dumps({"id": d.id, "text": d.text}) for d in documents(stdlib)]
    if not lines:
        raise SurroundingsError(
            "this Python carries no sources of its standard library",
            where=str(stdlib),
            hint="name a text of your own",
        )
    content = "".join(f"{line}\n" for line in lines).encode()
    path = home / f"{stem}-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    with replacing(path) as file:
        file.write(content)
    return path


def documents(stdlib: Path) -> Iterator[Document]:
    """One document a manual topic and one a module, in an order that depends on nothing but their names."""
    found = [*_topics(stdlib / "pydoc_data" / "topics.py"), *_modules(stdlib)]
    return iter(sorted(found, key=lambda document: hashlib.sha256(document.id.encode()).digest()))


def _topics(path: Path) -> Iterator[Document]:
    """The manual's chapters that `help("if")` shows: a file with one dictionary."""
    if not path.is_file():  # some distributions package it apart
        return
    for statement in ast.parse(path.read_bytes()).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            for topic, text in sorted(ast.literal_eval(statement.value).items()):
                if cleaned := _clean(text):
                    yield Document(cleaned, f"topic {topic}")


def _modules(stdlib: Path) -> Iterator[Document]:
    seen: set[str] = set()
    for path in sorted(stdlib.rglob("*.py"), key=lambda p: p.relative_to(stdlib).as_posix()):
        parts = path.relative_to(stdlib).with_suffix("").parts
        if _SKIPPED.intersection(parts):
            continue
        source = path.read_bytes()
        if b'"""' not in source:
            continue
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):  # a template or a test of the parser
            continue
        name = ".".join(part for part in parts if part != "__init__")
        entries = [text for text in _entries(tree, name) if not (text in seen or seen.add(text))]  # type: ignore[func-returns-value]
        if entries:
            yield Document("\n\n".join(entries), f"module {name}")


def _entries(node: ast.AST, name: str) -> Iterator[str]:
    """Every docstring below `node` under its heading, as `help()` would print it."""
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        text = _clean(ast.get_docstring(node, clean=False) or "")
        if len(text) >= _SHORTEST:
            yield text
        for child in node.body:
            yield from _entries(child, name)


def _clean(text: str) -> str:
    """Printable ASCII without stray indentation; empty where that cannot be had."""
    lines = inspect.cleandoc(text.translate(_TYPOGRAPHY)).splitlines()
    text = "\n".join(line.rstrip() for line in lines).strip()
    return text if text.isascii() and all(c.isprintable() or c == "\n" for c in text) else ""
