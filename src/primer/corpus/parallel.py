"""Where pairs of sentences come from: named sources, and any files or folder of a user's own.

dates       a date written in words → ISO 8601, made here          multi30k    English → German, descriptions of photos
a.en + a.de   a.tsv   a.jsonl   de.po   de.mo   a folder with train.en, train.de, val.en, …
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from primer.assets import Asset, find, sha256_of_lines
from primer.corpus import dates
from primer.corpus.pair import Pair, Rejected
from primer.corpus.parallel_folder import SPLITS, files_of
from primer.corpus.parallel_readers import READERS, WITH_FIELDS, Files
from primer.corpus.readers import Decoding, require_regular, unpacked_suffix
from primer.corpus.sources import existing
from primer.errors import DataError, UsageError

__all__ = ["MULTI30K", "NAMED", "Pair", "ParallelText", "Rejected", "open_parallel"]

NAMED = ("dates", "multi30k")

VERSION = 1
"""Raised whenever the same files would give other pairs, so that nothing stale is read."""

_COMMIT = "a3d2e0d26b56f3846f66a952536ffed4e401d05a"


def _multi30k(name: str, sha256: str, size: int) -> Asset:
    return Asset(
        name=f"Multi30k's {name}",
        path=f"multi30k/{name}.gz",
        url=f"https://raw.githubusercontent.com/multi30k/dataset/{_COMMIT}/data/task1/raw/{name}.gz",
        sha256=sha256,
        licence="for non-commercial research and education, as Flickr30K",
        size=size,
    )


MULTI30K = {
    "train": (
        _multi30k("train.en", "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f", 568_929),
        _multi30k("train.de", "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6", 637_044),
    ),
    "validation": (
        _multi30k("val.en", "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28", 21_650),
        _multi30k("val.de", "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a", 24_681),
    ),
    "test": (
        _multi30k("test_2016_flickr.en", "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9", 21_077),
        _multi30k("test_2016_flickr.de", "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8", 22_890),
    ),
}  # fmt: skip
"""(English, German) of each split (Elliott et al. 2016): 29,000, 1,014 and 1,000 descriptions of photos."""


class Origin(Protocol):
    """Where the pairs of one split come from."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides them."""

    @property
    def address(self) -> str:
        """Where that is, for a person to look."""

    def pairs(self, rejected: Rejected) -> Iterator[Pair]:
        """As they are written there; what is left out is counted in `rejected`."""


@dataclass(frozen=True)
class ParallelText:
    """Pairs that can be read again and again, always the same and in the same order."""

    name: str
    licence: str
    address: str
    origins: Mapping[str, Origin]
    """By split."""
    swap: bool = False
    """Whether the two sides change places, after all else."""

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides the pairs: bytes of files, how they are read, versions of what is made here."""
        parts = [f"{split} {self.origins[split].fingerprint}" for split in self.splits()]
        return sha256_of_lines([f"parallel text {VERSION}", f"swap {self.swap}", *parts])

    def splits(self) -> tuple[str, ...]:
        """Which of "train", "validation" and "test" have pairs of their own, in this order."""
        return tuple(split for split in SPLITS if split in self.origins)

    def pairs(self, split: str, rejected: Rejected | None = None) -> Iterator[Pair]:
        """The pairs of one split in order, each side without white space around it and otherwise as it was written.

        A pair with an empty side is left out and counted in `rejected` (by the sides as they are in the file, swapped
        or not). Raises UsageError for a split that there is not; while it is read, DataError that names the place of
        whatever is no pair, and DataError at the end where there was none.
        """
        if split not in self.origins:
            raise UsageError(f"{self.name} has no {split} pairs", hint=f"one of: {', '.join(self.splits())}")
        return self._pairs(split, Rejected() if rejected is None else rejected)

    def _pairs(self, split: str, rejected: Rejected) -> Iterator[Pair]:
        before = Counter(rejected.counts)
        empty = True
        for pair in self.origins[split].pairs(rejected):
            source, target = pair.source.strip(), pair.target.strip()
            if not (source and target):
                side = (
                    "both sides" if source == target else "the target side" if source else "the source side"
                )
                rejected.add(f"empty on {side}", pair.place, source or target)
                continue
            empty = False
            yield Pair(target, source, pair.place) if self.swap else Pair(source, target, pair.place)
        if empty:
            left_out = (Counter(rejected.counts) - before).most_common()
            why = f" ({', '.join(f'{count:,} {reason}' for reason, count in left_out)})" if left_out else ""
            raise DataError(
                f"no {split} pairs{why}", self.origins[split].address, "sentences, each with its translation"
            )


def open_parallel(
    source: str | Path,
    target: str | Path = "",
    *,
    source_field: str = "",
    target_field: str = "",
    validation_source: str | Path = "",
    validation_target: str | Path = "",
    encoding: str = "utf-8",
    encoding_errors: str = "strict",
    swap: bool = False,
) -> ParallelText:
    """A named source (`NAMED`), two texts that go line by line, a file that holds both sides, or a folder of these.

    A string that names a source wins over a file of that name (write `./dates` for the file). target: the other text,
    where `source` is one side only. source_field, target_field: what the two sides are called: columns of a .tsv file,
    keys of a .jsonl file, languages of a folder's files. validation_source, validation_target: pairs to judge by, given
    in the same way; without, `splits()` is ("train",). swap: translate the other way round.

    Nothing but a named source's files is read yet. Raises UsageError for what does not go together, DataError for what
    is not there, SurroundingsError for what cannot be reached.
    """
    decoding = Decoding(encoding, encoding_errors)
    fields = source_field, target_field
    validation = validation_source, validation_target
    if any(fields) and not all(fields):
        raise UsageError(
            "one side has a name and the other has none", hint="--data.source-field and --data.target-field"
        )
    if source_field and source_field == target_field:
        raise UsageError(
            f"both sides are called {source_field}", hint="--data.source-field and --data.target-field differ"
        )
    if source in NAMED and isinstance(source, str):
        if target or any(fields) or any(validation):
            raise UsageError(f"{source} is complete: no other file and no field goes with it", hint=source)
        return _named(source, swap)
    path = existing(source, NAMED)
    files = files_of(path, fields) if os.path.isdir(path) else {}
    if not files:
        files["train"] = _files(path, target, "--data.target")
    elif target:
        raise UsageError("a folder holds both sides", str(path), "leave --data.target out")
    if any(validation):
        if "validation" in files:
            raise UsageError("this folder has validation pairs of its own", str(path), "leave the others out")
        files["validation"] = _files(
            existing(validation_source), validation_target, "--data.validation-target"
        )
    if any(fields) and not (os.path.isdir(path) or unpacked_suffix(path) in WITH_FIELDS):
        raise UsageError("the two sides of this have no names", str(path), "leave the fields out")
    origins = {split: Files(paths, decoding, fields) for split, paths in files.items()}
    where = ", ".join(str(each.absolute()) for each in ([path, Path(target)] if target else [path]))
    return ParallelText(path.resolve().name, "unknown (your own text)", where, origins, swap)


def _named(name: str, swap: bool) -> ParallelText:
    if name == "dates":
        return ParallelText(name, dates.LICENCE, dates.ADDRESS, dates.ORIGINS, swap)
    origins = {
        split: Files((find(english), find(german)), Decoding())
        for split, (english, german) in MULTI30K.items()
    }
    licence = MULTI30K["train"][0].licence
    return ParallelText(name, licence, "https://github.com/multi30k/dataset", origins, swap)


def _files(path: Path, target: str | Path, flag: str) -> tuple[Path, ...]:
    """One file with both sides, or two with one each."""
    require_regular(path)
    both = unpacked_suffix(path) in READERS
    if not target:
        if not both:
            raise UsageError("one text is half a pair", str(path), f"name its translation: {flag}=FILE")
        return (path,)
    other = existing(target)
    require_regular(other)
    for each in (path, other):
        if unpacked_suffix(each) in READERS:
            raise UsageError(f"{each.name} holds both sides by itself", str(each), f"leave {flag} out")
    if path.samefile(other):
        raise UsageError("this text is named twice", str(path), f"name its translation: {flag}=FILE")
    return path, other
