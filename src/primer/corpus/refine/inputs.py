"""What is read: files, and the units they are cut into, whatever order they are named in and whoever reads them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
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
    """What documents call it: its path in the folder that was given, so that that may lie anywhere. No other input
    has it: see `_told_apart`."""
    kind: Kind
    group: str
    """The folder it lies in (a crawl, where each crawl has a folder): its path in the folder that was given, `.` for
    that itself. No other folder has it."""
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

    hashes: without them nothing but names and sizes is looked at, unless two files agree in both.

    Names depend neither on the order of `specs` nor on where it all lies. Raises DataError where nothing is there,
    UsageError for the same bytes under the same name twice.
    """
    called = _called(specs)
    if not called:
        raise DataError(
            "nothing to read is here", ", ".join(map(str, specs)), f"files that end in {_endings()}"
        )
    for file in called:
        require_regular(file)
    found: dict[Path, Input] = {}
    alike = Counter((name, os.path.getsize(file)) for file, (_, name) in called.items())
    total = sum(size * count for (_, size), count in alike.items())
    done = 0
    for file, (_, name) in called.items():
        state = file.stat()
        before = known.get(str(file))
        same = before and (before.size, before.changed) == (state.st_size, state.st_mtime_ns)
        digest = before.sha256 if before and same else ""
        if not digest and (hashes or alike[name, state.st_size] > 1):
            digest = sha256_of(file)
        found[file] = Input(
            str(file), shown(name), kind_of(file), "", state.st_size, state.st_mtime_ns, digest
        )
        done += state.st_size
        progress("hash", done, total)
    _refuse_copies(found.values())
    names = _told_apart({path: len(Path(name).parts) for path, name in called.values()})
    depths: dict[Path, int] = {}  # of folders: how much of its path the names of its files tell
    for path, name in called.values():
        depths[path.parent] = max(depths.get(path.parent, 0), len(Path(name).parts) - 1)
    groups = _told_apart(depths)
    inputs = [
        replace(each, name=names[called[file][0]], group=groups[called[file][0].parent])
        for file, each in found.items()
    ]
    return tuple(sorted(inputs, key=lambda each: (each.group, each.name)))


def _called(specs: Sequence[str | Path]) -> dict[Path, tuple[Path, str]]:
    """Of each file, (its path, what of that is its name).

    The path is as it was named, but for links in what leads to the folder that was given. A file that is reached
    twice has the longer name: with `E E/sub` the same is read as with `E`.
    """
    called: dict[Path, tuple[Path, str]] = {}
    for spec in specs:
        path = existing(spec)
        if path.is_dir():
            folder = path.resolve()
            reached = [(file, folder / name, name) for file, name in _below(path)]
        else:
            reached = [(path, path.parent.resolve() / path.name, path.name)]
        for file, where, name in reached:
            real = file.resolve()
            if real not in called or _rank(where, name) < _rank(*called[real]):
                called[real] = where, name
    return called


def _rank(path: Path, name: str) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Which of a file's names is taken: the first in this order."""
    parts = Path(name).parts
    return -len(parts), parts, path.parts


def _refuse_copies(inputs: Iterable[Input]) -> None:
    """UsageError where the same bytes have the same name twice: a crawl that was named twice, more often than not."""
    seen: dict[tuple[str, str], Input] = {}
    for each in sorted(inputs, key=lambda each: each.path):
        other = seen.setdefault((each.name, each.sha256), each)
        if each.sha256 and other is not each:
            raise UsageError("the same file is named twice", f"{other.path}, {each.path}", "name it once")


def _told_apart(lengths: Mapping[Path, int]) -> dict[Path, str]:
    """Names for paths, all different: of each its last parts, so many of them, and more where others have the same.

    Those that share a name each take one parent more, until they differ, but none that all of them have: what lies
    above them may be called anything. Raises UsageError for two names that are shown alike.
    """
    taken = dict(lengths)
    while True:
        named: dict[str, list[Path]] = {}
        for path, length in taken.items():
            named.setdefault(shown("/".join(path.parts[len(path.parts) - length :]) or "."), []).append(path)
        shared = [paths for paths in named.values() if len(paths) > 1]
        if not shared:
            return {path: name for name, (path,) in named.items()}
        before = dict(taken)
        for paths in shared:
            levels = zip(*(path.parts for path in paths), strict=False)
            above = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
            for path in paths:
                taken[path] = min(taken[path] + 1, max(len(path.parts) - above, taken[path]))
        if taken == before:
            where = ", ".join(sorted(map(str, shared[0])))
            raise UsageError("two names that no text can tell apart", where, "rename one of them")


def shown(name: str) -> str:
    """A file's name as text: bytes of it that are no UTF-8 become `\\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace") if not name.isascii() else name


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
