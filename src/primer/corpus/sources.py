"""Where text comes from: named sources, and any file or folder of text."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from primer.assets import BLOCK, Asset, find, log, sha256_of, sha256_of_lines
from primer.corpus import hub, python_docs
from primer.corpus.document import SEPARATOR, Document
from primer.corpus.readers import (
    PACKED,
    Decoding,
    read_jsonl,
    read_parquet,
    read_text,
    require_regular,
    unpacked_suffix,
)
from primer.errors import DataError, SurroundingsError, UsageError, nearest

SHAKESPEARE = Asset(
    name="tiny Shakespeare",
    path="shakespeare/input.txt",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    licence="public domain",
    size=1_115_394,
)

READERS = {".txt": read_text, ".md": read_text, ".jsonl": read_jsonl, ".parquet": read_parquet}
"""What a folder is searched for, and how each is read. A file with another ending (but for `TOKENS`) is text where it
is named itself. Each may be packed: `.txt.gz`, `.jsonl.zst`."""

TOKENS = (".bin", ".npy")
"""Endings of files that hold tokens (`data/layout.py` reads them), of which there is no text to be had."""

_TOKEN_FILES = "to train on tokens it needs files named train and val; for anything else, the text itself"

RUN_MARK = "run.json"
"""A folder with this file is a training run: what it wrote about itself is no text to train on."""

NAMED = ("python-docs", "shakespeare", *hub.DATASETS)


@dataclass(frozen=True)
class Source:
    """Text that can be read again and again, always the same and in the same order."""

    name: str
    licence: str
    address: str
    files: tuple[tuple[str, Path], ...]
    """(name inside the source, path), in the order in which they are read."""
    decoding: Decoding

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content: of the one file's bytes, or of all names and hashes."""
        hashes = [sha256_of(path) for _, path in self.files]
        if len(hashes) == 1:
            return hashes[0]
        return sha256_of_lines(
            f"{digest}  {name}" for digest, (name, _) in zip(hashes, self.files, strict=True)
        )

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """(bytes, last change in ns) of every file: differs when a text changed under its reader."""
        states = [path.stat() for _, path in self.files]
        return tuple((state.st_size, state.st_mtime_ns) for state in states)

    @property
    def packed(self) -> bool:
        """Whether a file's bytes say little about how much text is in it."""
        return any(path.suffix.lower() in (*PACKED, ".parquet") for _, path in self.files)

    def documents(self) -> Iterator[Document]:
        """Every document in order; a long text file arrives in pieces (`Document.part`)."""
        for name, path in self.files:
            require_regular(path)
            yield from reader_of(path)(path, name, self.decoding)

    def readers(self) -> list[str]:
        """The ways in which its files are read: the same bytes may be text, or records that hold texts."""
        return sorted({reader_of(path).__name__ for _, path in self.files})

    def text(self) -> Iterator[str]:
        """The whole source as one text, in pieces of about a megabyte, a blank line between documents."""
        pieces: list[str] = []
        held = 0
        first = True
        for document in self.documents():
            if document.part == 0 and not first:
                pieces.append(SEPARATOR)
            first = False
            pieces.append(document.text)
            held += len(document.text)
            if held >= BLOCK:
                yield "".join(pieces)
                pieces, held = [], 0
        if pieces:
            yield "".join(pieces)


def reader_of(path: Path) -> Callable[[Path, str, Decoding], Iterator[Document]]:
    """How a file is read, by its ending."""
    return READERS.get(unpacked_suffix(path), read_text)


def open_source(
    spec: str | Path,
    *,
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    field: str = "text",
    limit_tokens: int = 0,
) -> Source:
    """A named source, a text file, or a folder of `.txt`, `.md`, `.jsonl` and `.parquet` files.

    A string that names a source wins over a file of that name (write `./shakespeare` for the file). limit_tokens: of a
    source that is downloaded, only as many files as hold so many tokens (0: all). Raises
    DataError where there is no text, SurroundingsError where it cannot be reached.
    """
    decoding = Decoding(encoding, encoding_errors, field)
    if spec == "python-docs":
        built = python_docs.build()
        return Source(spec, python_docs.LICENCE, python_docs.ADDRESS, ((built.name, built),), Decoding())
    if spec == "shakespeare":
        found = find(SHAKESPEARE)
        return Source(spec, SHAKESPEARE.licence, SHAKESPEARE.url, ((found.name, found),), Decoding())
    if isinstance(spec, str) and spec in hub.DATASETS:
        dataset = hub.DATASETS[spec]
        files = tuple(hub.fetch(spec, limit_tokens))
        return Source(spec, dataset.licence, dataset.address, files, Decoding())
    path = existing(spec, NAMED)
    files = _text_files(path) if os.path.isdir(path) else ((path.name, path),)
    if path.suffix in TOKENS and not os.path.isdir(path):
        raise DataError(
            "tokens, not text, and tokens are read by the folder", str(path), f"{path.parent}: {_TOKEN_FILES}"
        )
    for _, file in files:
        require_regular(file)
    return Source(path.resolve().name, "unknown (your own text)", str(path.absolute()), files, decoding)


def existing(spec: str | Path, named: Sequence[str] = ()) -> Path:
    """The path that a word stands for which is none of these names. DataError where nothing is there."""
    hint = f"a path, or one of: {', '.join(named)}" if named else "look at its name"
    if not str(spec):  # an unset variable of a shell, not the folder that Path("") is
        raise DataError("no text is named by an empty word", hint=hint)
    if not os.path.lexists(spec):
        close = nearest(str(spec), list(named))
        hint = f"did you mean {close}?" if close else hint
        raise DataError(f"there is no file or folder {str(spec)!r}", hint=hint)
    return Path(spec)


def open_sources(
    specs: Sequence[str | Path],
    *,
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    field: str = "text",
    limit_tokens: int = 0,
) -> Source:
    """Several sources read one after the other as one. Raises as `open_source` does, UsageError for none."""
    opened = [
        open_source(
            spec,
            encoding=encoding,
            encoding_errors=encoding_errors,
            field=field,
            limit_tokens=limit_tokens,
        )
        for spec in specs
    ]
    if not opened:
        raise UsageError("no text is named", hint=f"a path, or one of: {', '.join(NAMED)}")
    if len(opened) == 1:
        return opened[0]
    seen: set[Path] = set()
    for path in (path.resolve() for source in opened for _, path in source.files):
        if path in seen:
            raise UsageError("this text is named twice", where=str(path), hint="name each text once")
        seen.add(path)
    if len({source.decoding for source in opened}) > 1:
        raise UsageError("a named source has its own encoding", hint="prepare it by itself")
    return Source(
        name=" + ".join(source.name for source in opened),
        licence="; ".join(dict.fromkeys(source.licence for source in opened)),
        address=", ".join(source.address for source in opened),
        files=tuple(file for source in opened for file in source.files),
        decoding=opened[0].decoding,
    )


def _text_files(folder: Path) -> tuple[tuple[str, Path], ...]:
    """Text files below `folder` in the order of their relative names; nothing hidden, no linked folders, no runs."""

    def refuse(error: OSError) -> None:
        raise SurroundingsError(
            f"cannot be read ({error.strerror})", str(error.filename), "chmod u+rx, or another folder"
        ) from error

    found: list[tuple[str, Path]] = []
    others: Counter[str] = Counter()
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [
            name for name in folders if not (name.startswith(".") or Path(parent, name, RUN_MARK).is_file())
        ]
        for name in names:
            path = Path(parent, name)
            if unpacked_suffix(path) in READERS and not name.startswith("."):
                found.append((path.relative_to(folder).as_posix(), path))
            elif not name.startswith("."):
                others[path.suffix or "no ending"] += 1
    if not found:
        tokens = any(suffix in others for suffix in TOKENS)
        raise DataError(
            "a folder without text" + (", but with files as tokens are kept in" if tokens else ""),
            where=str(folder),
            hint=_TOKEN_FILES if tokens else f"it needs a file that ends in {', '.join(READERS)}",
        )
    if others:
        kinds = ", ".join(kind for kind, _ in others.most_common(5))
        log.warning("%s: %d files read, %d others left out (%s)", folder, len(found), others.total(), kinds)
    return tuple(sorted(found))
