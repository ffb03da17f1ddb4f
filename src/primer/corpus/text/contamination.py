"""Text of evaluations does not belong into a training set: finds n successive words that stand in an item, too.

GPT-3's training set was searched so (Brown et al. 2020, arXiv:2005.14165, appendix C), with n = 13; where its authors
let n vary they let it be 8 at least, because shorter overlaps were spurious. An item with fewer than n words counts
when the whole of it is found, as there; one with fewer than 8 is too common, and is not searched.

Words are compared as `contamination_words.py` says. The n-grams of a text are looked up by a 64-bit hash, and what is
found is compared with the item word by word: nothing is found that is not there. And nothing is missed that is, since
equal words have equal hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from primer.assets import reading, seal, sha256_of, unseal, whole_folder
from primer.corpus.text.contamination_grams import Grams, Words
from primer.corpus.text.contamination_items import read_items
from primer.corpus.text.contamination_words import Word, words
from primer.errors import DataError, UsageError, missing_extra

N = 13
LEAST_WORDS = 8
"""A shorter item is not searched, unless n is smaller."""
MARK = "…"

SCHEME = "contamination index 1"
"""Changes whenever the same files would be indexed otherwise than before."""
HEAD = "index.json"

Span = tuple[int, int]
"""First place, and the place after the last."""


@dataclass(frozen=True, slots=True)
class Find:
    """text[start:end] stands in an evaluation's item (`file:number`), from its first word to its last."""

    item: str
    start: int
    end: int


@dataclass(frozen=True)
class Index:
    """What is looked for: 16 bytes an n-gram and those of the words themselves, some 24 in all."""

    n: int
    files: tuple[str, ...]
    places: NDArray[np.int64]
    """(3, items): of each item the byte of its first word, its file, its number in it."""
    words: NDArray[np.uint8]
    """The words of all items, as `Words.text` has them."""
    grams: Grams
    """Every n successive words of an item."""
    whole: Grams
    """The first words of items that have fewer, and are found as a whole."""
    too_short: int
    """Items that are not searched."""
    fingerprint: str
    """SHA-256 of what was indexed, and how."""
    path: Path | None = None
    """Where it was opened: another process opens it there too, and shares its memory."""

    @staticmethod
    def build(files: Sequence[Path], n: int = N) -> Index:
        """The index of evaluation files (`contamination_items.read_items` says which and how).

        UsageError for n below 1 or no file; DataError for a file that cannot be read, and if no item can be searched.
        """
        if n < 1 or not files:
            raise UsageError("there is nothing to look for", hint="a file of evaluations, and n of 1 or more")
        names, least = _names(files), min(n, LEAST_WORDS)
        reader = _reader()
        found: list[tuple[list[str], NDArray[np.uint64]]] = []
        origins: list[tuple[int, int]] = []
        total = 0
        for file, path in enumerate(files):
            for number, text in read_items(path):
                total += 1
                said = [word.text for word in words(text)]
                if len(said) >= least:
                    found.append((said, reader.read(text)))
                    origins.append((file, number))
        if not found:
            raise DataError(
                "no item is long enough to be searched", ", ".join(names), f"{least} words or more"
            )
        return _indexed(n, names, Words.of(found), np.array(origins, np.int64), total - len(found))

    @property
    def items(self) -> int:
        """How many items are searched."""
        return self.places.shape[1]

    def find(self, text: str) -> list[Find]:
        """Every stretch that stands in an item too, from left to right; those of one item that overlap are joined."""
        hashes = _reader().read(text)
        hits = [(grams, *grams.among(hashes)) for grams in (self.grams, self.whole)]
        if not any(len(places) for _, places, _ in hits):
            return []
        said = words(text)
        spans: dict[int, list[Span]] = {}
        for hit in hits:
            for item, span in self._confirmed(*hit, said):
                spans.setdefault(item, []).append(span)
        found = [Find(self._name(item), *span) for item, those in spans.items() for span in _union(those)]
        return sorted(found, key=lambda find: (find.start, find.end, find.item))

    def _confirmed(
        self, grams: Grams, places: NDArray[np.int64], begins: NDArray[np.int64], said: Sequence[Word]
    ) -> Iterator[tuple[int, Span]]:
        """(item, span of the text) of what is there word by word, and not only by its hash."""
        items = np.searchsorted(self.places[0], begins, side="right") - 1
        for place, begin, item in zip(places.tolist(), begins.tolist(), items.tolist(), strict=True):
            count = self.n if grams is self.grams else self._length(item)
            here = said[place : place + count]
            if len(here) == count and self._reads(begin, " ".join([word.text for word in here])):
                yield item, (here[0].start, here[-1].end)

    def _length(self, item: int) -> int:
        """Words of an item."""
        stop = self.places[0, item + 1] if item + 1 < self.items else len(self.words)
        return self.words[self.places[0, item] : stop].tobytes().count(b" ") + 1

    def _reads(self, start: int, said: str) -> bool:
        """Whether these words, and no longer ones, begin at a byte."""
        expected = said.encode()
        there = self.words[start : start + len(expected) + 1].tobytes()
        return there[:-1] == expected and there[-1:] in b" \n"

    def _name(self, item: int) -> str:
        _, file, number = self.places[:, item].tolist()
        return f"{self.files[file]}:{number}"

    def save(self, path: Path) -> None:
        """Write it as a folder of .npy files and a sealed index.json. UsageError where something is at `path`."""
        arrays: dict[str, NDArray[Any]] = {
            "places": self.places,
            "words": self.words,
            "grams": self.grams.hashes,
            "grams_where": self.grams.where,
            "whole": self.whole.hashes,
            "whole_where": self.whole.where,
        }
        with whole_folder(path) as folder:
            for name, array in arrays.items():
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
            head: dict[str, Any] = {
                "kind": SCHEME,
                "n": self.n,
                "files": list(self.files),
                "too_short": self.too_short,
                "fingerprint": self.fingerprint,
                "arrays": {name: sha256_of(folder / f"{name}.npy") for name in arrays},
            }
            (folder / HEAD).write_text(seal(head), encoding="utf-8")

    @staticmethod
    def open(path: Path) -> Index:
        """What `save` wrote, mapped into memory, which processes share. DataError for damage, and for anything else."""
        with reading(path / HEAD) as file:
            head = unseal(file.read().decode("utf-8", "replace"), where=str(path))
        if head.get("kind") != SCHEME:
            raise DataError(f"this holds {head.get('kind')}, not {SCHEME}", str(path), "build it again")
        for name, expected in head["arrays"].items():
            file_path = path / f"{name}.npy"
            if sha256_of(file_path) != expected:
                raise DataError(
                    "this file is damaged: its checksum does not fit", str(file_path), "build it again"
                )
        arrays = {
            name: np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in head["arrays"]
        }
        return Index(
            head["n"],
            tuple(head["files"]),
            arrays["places"],
            arrays["words"],
            Grams(head["n"], arrays["grams"], arrays["grams_where"]),
            Grams(LEAST_WORDS, arrays["whole"], arrays["whole_where"]),
            head["too_short"],
            head["fingerprint"],
            path,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is not None:
            return Index.open, (self.path,)
        return Index, tuple(getattr(self, field.name) for field in fields(self))


@cache
def _reader() -> Any:
    """A `compiled_contamination.Reader`. SurroundingsError where numba is missing."""
    try:
        from primer.corpus.text.compiled_contamination import Reader
    except ImportError as error:
        raise missing_extra("numba", "corpus") from error
    return Reader()


def mask(text: str, finds: Iterable[Find], mark: str = MARK) -> str:
    """The text with `mark` (or nothing, for "") in place of each stretch that was found, and of those that overlap.

    >>> mask("So: to be or not to be!", [Find("hamlet.txt:1", 4, 22)])
    'So: …!'
    """
    pieces, after = [], 0
    for start, end in _union((find.start, find.end) for find in finds):
        pieces += [text[after:start], mark]
        after = end
    return "".join([*pieces, text[after:]])


def _union(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that overlap as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start < found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _names(files: Sequence[Path]) -> tuple[str, ...]:
    """What the files are called in a find: their names, or their whole paths where two have the same."""
    names = tuple(path.name for path in files)
    return names if len(set(names)) == len(names) else tuple(path.as_posix() for path in files)


def _indexed(
    n: int, names: tuple[str, ...], said: Words, origins: NDArray[np.int64], too_short: int
) -> Index:
    first = said.starts[np.searchsorted(said.owners, np.arange(len(origins)))]
    places = np.vstack([first, origins.T])
    digest = hashlib.sha256(f"{SCHEME}\n{n}\n{names}\n".encode("utf-8", "surrogateescape"))
    digest.update(places.astype("<i8").tobytes())
    digest.update(said.text.tobytes())
    whole = said.beginnings(LEAST_WORDS, below=n)
    return Index(n, names, places, said.text, said.grams(n), whole, too_short, digest.hexdigest())
