"""Which files of a folder are the training, validation and test part of a parallel text.

    train.en  train.de  val.en  val.de  test_2016_flickr.en.gz  test_2016_flickr.de.gz         (or train.tsv  val.tsv …)

A name begins with the split (train; val, valid, validation or dev; test…) and ends with the language.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from primer.assets import log
from primer.corpus.parallel_readers import READERS, Fields
from primer.corpus.readers import PACKED, unpacked_suffix
from primer.errors import DataError, SurroundingsError, UsageError

SPLITS = ("train", "validation", "test")

Found = Mapping[str, Mapping[str, Path]]
"""The files of one split: by what stands before the ending, then by ending."""


def files_of(folder: Path, fields: Fields) -> dict[str, tuple[Path, ...]]:
    """The files of every split that a folder has: one with both sides, or two that end in the languages of `fields`.

    Raises UsageError where languages must be named; DataError where one side is missing, and where more than one set of
    files could be meant (of several test sets the first by name is taken, with a warning).
    """
    found = _found(folder)
    endings = {ending for files in found["train"].values() for ending in files}
    if not endings:
        raise DataError(
            "no training pairs: no file is named train", str(folder), "train.en and train.de, say"
        )
    if not any(fields) and endings.isdisjoint(READERS):
        raise _unnamed(folder, sorted(endings))
    chosen = {split: _chosen(folder, split, found[split], fields) for split in SPLITS}
    return {split: files for split, files in chosen.items() if files}


def _found(folder: Path) -> dict[str, dict[str, dict[str, Path]]]:
    found: dict[str, dict[str, dict[str, Path]]] = {split: {} for split in SPLITS}
    for path in _files(folder):
        split, ending = _split_of(path.name), unpacked_suffix(path)
        if split is None or not ending:
            continue
        files = found[split].setdefault(_stem(path), {})
        if ending in files:
            raise DataError(
                f"{files[ending].name} and {path.name}: one of them too many",
                str(folder),
                "move one elsewhere",
            )
        files[ending] = path
    return found


def _files(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SurroundingsError(
            f"cannot be read ({error.strerror})", str(folder), "chmod u+rx, or another folder"
        ) from error
    return (folder / name for name in names)


def _split_of(name: str) -> str | None:
    word = name.lower().split(".")[0]
    if word in ("val", "valid", "validation", "dev"):
        return "validation"
    return "train" if word == "train" else "test" if word.startswith("test") else None


def _stem(path: Path) -> str:
    """`test_2016` of `test_2016.en.gz`."""
    return Path(path.stem).stem if path.suffix.lower() in PACKED else path.stem


def _unnamed(folder: Path, endings: list[str]) -> DataError | UsageError:
    languages = [ending.removeprefix(".") for ending in endings]
    if len(languages) == 1:
        return DataError(
            f"one text is half a pair: there is nothing but train.{languages[0]}",
            str(folder),
            "put its translation beside it, train.en and train.de, say",
        )
    return UsageError(
        f"languages must be named: {' and '.join(languages)} are there, and nothing says which is translated",
        where=str(folder),
        hint=f"--data.source-field={languages[0]} --data.target-field={languages[1]}",
    )


def _chosen(folder: Path, split: str, found: Found, fields: Fields) -> tuple[Path, ...]:
    """The files of one split; none where nothing in it concerns these languages."""
    source, target = (f".{language.lower()}" for language in fields)
    sets: list[tuple[Path, ...]] = []
    halves: list[Path] = []
    for files in found.values():
        sets += [(path,) for ending, path in files.items() if ending in READERS]
        if source in files and target in files:
            sets.append((files[source], files[target]))
        else:
            halves += [files[ending] for ending in (source, target) if ending in files]
    if not sets and (halves or split == "train"):
        there = ", ".join(path.name for files in found.values() for path in files.values())
        raise DataError(
            f"no {split} pairs in {' and '.join(fields)}: there is {there}", str(folder), "other languages"
        )
    if len(sets) > 1:
        names = [" + ".join(path.name for path in each) for each in sets]
        if split != "test":
            raise DataError(
                f"several sets of {split} pairs: {', '.join(names)}",
                str(folder),
                "move all but one elsewhere",
            )
        log.warning("%s: the test part is %s; left out: %s", folder, names[0], ", ".join(names[1:]))
    return sets[0] if sets else ()
