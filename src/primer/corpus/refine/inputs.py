"""What is read: files, and the units they are cut into, whatever order they are named in and whoever reads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from primer.assets import log, sha256_of, sha256_of_lines
from primer.corpus.readers import PACKED, require_regular, unpacked_suffix
from primer.corpus.sources import READERS, existing
from primer.errors import DataError, SurroundingsError, UsageError

Kind = Literal["archive", "jsonl", "parquet", "text"]

ARCHIVES = (".warc", ".arc", ".wet")
UNIT_LEAST, UNIT_MOST, UNITS = 1 << 20, 64 << 20, 64
"""Bytes of a unit, at least and at most, and how many units there are to be between them: enough to keep many
processes busy, few enough that what each costs (a file, a receipt) is nothing. Depends on the input alone."""

KINDS: dict[str, Kind] = {".jsonl": "jsonl", ".parquet": "parquet"}


@dataclass(frozen=True)
class Input:
    """A file."""

    path: str
    name: str
    """What documents call it: its name in the folder that was given, so that it may lie anywhere."""
    kind: Kind
    group: str
    """The folder it lies in: a crawl, where each crawl has a folder."""
    size: int
    changed: int
    """When it was last changed, in ns."""
    sha256: str


@dataclass(frozen=True)
class Part:
    """A stretch of a file: bytes, or row groups of a Parquet file."""

    input: int
    start: int
    stop: int | None


@dataclass(frozen=True)
class Unit:
    """What one process reads at a time."""

    name: str
    """A file name that no other unit of these inputs has, made of what is read alone."""
    group: str
    bytes: int
    parts: tuple[Part, ...]


Progress = Callable[[str, int, int], None]


def find(
    specs: Sequence[str | Path], known: dict[str, Input], progress: Progress, *, hashes: bool = True
) -> tuple[Input, ...]:
    """All files below what is named, by name. `known` spares what has not changed since from being hashed again.

    hashes: without them nothing but names and sizes is looked at.

    Raises DataError where nothing is there, UsageError for the same bytes under the same name twice.
    """
    files: dict[Path, tuple[str, str]] = {}
    for spec in specs:
        path = existing(spec)
        for file, name in _below(path) if path.is_dir() else [(path, path.name)]:
            group = file.resolve().parent.name
            files.setdefault(file.resolve(), (name, group))
    if not files:
        raise DataError(
            "nothing to read is here", ", ".join(map(str, specs)), f"files that end in {_endings()}"
        )
    found: list[Input] = []
    total = sum(os.path.getsize(file) for file in files)
    done = 0
    for file, (name, group) in files.items():
        require_regular(file)
        state = file.stat()
        before = known.get(str(file))
        same = before and (before.size, before.changed) == (state.st_size, state.st_mtime_ns)
        digest = before.sha256 if before and same else sha256_of(file) if hashes else ""
        found.append(Input(str(file), name, kind_of(file), group, state.st_size, state.st_mtime_ns, digest))
        done += state.st_size
        progress("hash", done, total)
    found.sort(key=lambda each: (each.group, each.name, each.sha256))
    for one, other in pairwise(found):
        if (one.name, one.sha256) == (other.name, other.sha256):
            raise UsageError("the same file is named twice", f"{one.path}, {other.path}", "name it once")
    return tuple(found)


def _endings() -> str:
    return ", ".join((*ARCHIVES, *READERS)) + ", each also packed (.gz, .zst)"


def kind_of(path: Path) -> Kind:
    """What a file is by its name."""
    suffix = unpacked_suffix(path)
    return "archive" if suffix in ARCHIVES else KINDS.get(suffix, "text")


def _below(folder: Path) -> list[tuple[Path, str]]:
    """(file, name in the folder) of everything readable below it; nothing hidden. What is left out is said."""

    def refuse(error: OSError) -> None:
        raise SurroundingsError(
            f"cannot be read ({error.strerror})", str(error.filename), "chmod u+rx, or another folder"
        ) from error

    found, others = [], 0
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if unpacked_suffix(path) in (*ARCHIVES, *READERS):
                found.append((path, path.relative_to(folder).as_posix()))
            else:
                others += 1
    if others:
        log.warning("%s: %d files read, %d with other endings left out", folder, len(found), others)
    return found


def units(
    inputs: Sequence[Input], sizes: Callable[[Input, int], list[tuple[int, int | None]]]
) -> tuple[Unit, ...]:
    """Cut large files, put small ones together, within a group and in the order of their names.

    sizes: the stretches of a file of about so many bytes. The same inputs give the same units, on any machine and
    for any number of processes.
    """
    total = sum(each.size for each in inputs)
    goal = min(max(total // UNITS, UNIT_LEAST), UNIT_MOST)
    found: list[Unit] = []
    parts: list[Part] = []
    held = 0

    def close() -> None:
        nonlocal held
        if parts:
            found.append(_unit(inputs, tuple(parts), held))
        parts.clear()
        held = 0

    for number, each in enumerate(inputs):
        if parts and inputs[parts[0].input].group != each.group:
            close()
        for start, stop in sizes(each, goal):
            share = (each.size if stop is None else stop) - start if each.kind != "parquet" else goal
            if parts and held + share > goal:
                close()
            parts.append(Part(number, start, stop))
            held += share
    close()
    return tuple(found)


def _unit(inputs: Sequence[Input], parts: tuple[Part, ...], size: int) -> Unit:
    first = inputs[parts[0].input]
    what = [
        f"{inputs[part.input].name} {inputs[part.input].sha256} {part.start} {part.stop}" for part in parts
    ]
    stem = "".join(char if char.isalnum() or char in "-_." else "_" for char in Path(first.name).name)[:60]
    return Unit(f"{stem}-{parts[0].start}-{sha256_of_lines(what)[:10]}", first.group, size, parts)


def stretches(each: Input, goal: int) -> list[tuple[int, int | None]]:
    """Where a file may be cut: an archive between records, .jsonl after a line, Parquet between its row groups."""
    path = Path(each.path)
    if each.kind == "archive":
        from primer.corpus.crawl.blocks import ranges

        return list(ranges(path, goal))
    if each.kind == "parquet":
        from primer.corpus.refine.plain import row_groups

        return row_groups(path, goal)
    if each.kind == "jsonl" and path.suffix.lower() not in PACKED and each.size > goal:
        return [(start, min(start + goal, each.size)) for start in range(0, each.size, goal)]
    return [(0, None)]
