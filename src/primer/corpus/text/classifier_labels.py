"""Texts that a person has labelled: lines of a .jsonl file, or a folder for each label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from primer.corpus.readers import Decoding, checked, read_records, unpacked_suffix
from primer.corpus.sources import existing, open_source
from primer.errors import DataError, UsageError

HINT = 'a .jsonl file of {"text": …, "label": …}, a folder with one folder a label, or good=FOLDER,bad=FOLDER'


def read_labels(spec: str | Path) -> Iterator[tuple[str, str]]:
    """(text, label) of every example.

    spec: a .jsonl file (packed or not) of {"text": …, "label": …}; a folder whose folders are named by labels; or
    `good=FOLDER,bad=FOLDER`. In folders, each file of text and each record of a .jsonl or .parquet file is an example.
    Raises DataError for what is neither, and as `open_source` does; UsageError for a label that is named twice.
    """
    if isinstance(spec, str) and "=" in spec and not Path(spec).exists():
        return _from_folders(_named(spec))
    path = existing(spec)
    if path.is_dir():
        folders = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
        if not folders:
            raise DataError("no folder in here is named by a label", str(path), HINT)
        return _from_folders({folder.name: folder for folder in folders})
    if unpacked_suffix(path) != ".jsonl":
        raise DataError("this holds no labels", str(path), HINT)
    return _from_lines(path)


def _named(spec: str) -> dict[str, Path]:
    """The folder of each label."""
    found: dict[str, Path] = {}
    for part in spec.split(","):
        label, _, folder = part.partition("=")
        if not label or not folder:
            raise UsageError(f"{part!r} names no label and folder", spec, HINT)
        if label in found:
            raise UsageError(f"the label {label} is named twice", spec, "one folder each")
        found[label] = existing(folder)
    return found


def _from_folders(folders: dict[str, Path]) -> Iterator[tuple[str, str]]:
    for label, folder in folders.items():
        pieces: list[str] = []
        for document in open_source(folder).documents():
            if document.part == 0 and pieces:
                yield "".join(pieces), label
                pieces = []
            pieces.append(document.text)
        if pieces:
            yield "".join(pieces), label


def _from_lines(path: Path) -> Iterator[tuple[str, str]]:
    decoding = Decoding()
    for number, record in read_records(path, decoding):
        where = f"{path}, line {number}"
        text, label = record.get("text"), record.get("label")
        if not isinstance(text, str) or not isinstance(label, str):
            raise DataError(
                'no strings under "text" and "label"', where, 'lines like {"text": "…", "label": "good"}'
            )
        yield checked(text, decoding, where), label
