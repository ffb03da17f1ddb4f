"""Token files that others published (llm.c, modded-nanogpt, build-nanogpt), read where they lie and as they are.

    fineweb_val_000000.bin   fineweb_train_000001.bin   fineweb_train_000002.bin …     (or .npy)

They carry no checksums, so every byte is read once, the first time; what was found is kept in the cache.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BufferedReader
from itertools import pairwise
from pathlib import Path

import numpy as np

from primer.assets import BLOCK, cache_dir, log, reading, replacing, seal, sha256_of_lines, unseal
from primer.corpus import NAMED
from primer.data.layout import SUFFIXES, Layout, read_layout
from primer.data.manifest import COUNTED, MANIFEST, SPLITS, Counts, Split, read_small
from primer.data.shards import ShardDirectory, Tokens
from primer.errors import DataError, SurroundingsError
from primer.tokens.tokenizer import Ids, Tokenizer

Progress = Callable[[str, int, int], None]
"""Called with "check", the bytes read so far, and all that are to be read."""

KIND = "primer index of token files"
VERSION = 1
UNVERIFIED = "not read"


def is_foreign(path: Path | str) -> bool:
    """Whether a folder looks like token files of others: .bin or .npy named train or val, and no manifest of ours.

    A name wins over a folder that is called the same, as in `corpus.open_source`.
    """
    if path in NAMED or not os.path.isdir(path) or os.path.exists(os.path.join(path, MANIFEST)):
        return False
    with suppress(OSError):
        return any(_splits_of(name) for name in os.listdir(path))
    return False


def open_foreign(
    path: Path | str,
    tokenizer: Tokenizer,
    *,
    verify: bool = True,
    splits: Sequence[Split] = SPLITS,
    progress: Progress | None = None,
) -> ShardDirectory:
    """Map the token files of a folder, each split's in the order of the names, after proof that they are whole.

    Counts of characters and bytes are 0: nobody has written them down. Raises DataError that names the file: for a
    header, a size or an id that cannot be right, for a number that is missing, for a split without a file. A file is
    read through once, and again when its size or its time has changed. `verify=False` never reads one through: ids
    are not checked, and the fingerprint of what was not read before is that of names and sizes alone. splits: what is
    wanted; of another one no file need be there, and none is opened.
    """
    path = Path(path)
    files = {split: found for split, found in _files(path, splits).items() if split in splits}
    index = _Index.of(path)
    check = _Check(tokenizer.vocab_size, index, verify, progress or _silent, _size(files))
    views: dict[Split, Tokens] = {}
    lines = [tokenizer.fingerprint]
    for split in splits:
        parts = []
        for file in files[split]:
            ids, digest = _open(file, check)
            parts.append(ids)
            lines.append(f"{split} {file.name} {digest}")
        kinds = [part.dtype.newbyteorder("=") for part in parts]
        views[split] = Tokens(parts, np.result_type(*kinds))
    counts: dict[Split, Counts] = {
        split: dict.fromkeys(COUNTED, 0) | {"tokens": len(views[split])} for split in splits
    }
    fingerprint = sha256_of_lines(lines)
    source = {"name": path.resolve().name, "licence": "", "address": str(path), "fingerprint": fingerprint}
    key = sha256_of_lines([KIND, fingerprint])
    return ShardDirectory(path, tokenizer, counts, source, key, fingerprint, views)


def _silent(stage: str, done: int, total: int) -> None:
    pass


_SPLIT = re.compile(r"(?<![a-z])(train|training|val|valid|validation)(?![a-z])")
_NUMBERED = re.compile(r"(.*?)(\d*)")


def _splits_of(name: str) -> set[Split]:
    """The splits that a file's name speaks of; none where it is no token file."""
    stem, suffix = os.path.splitext(name.lower())
    if suffix not in SUFFIXES:
        return set()
    return {"train" if word.startswith("train") else "validation" for word in _SPLIT.findall(stem)}


def _files(path: Path, splits: Sequence[Split]) -> dict[Split, list[Path]]:
    """The token files of a folder, of each wanted split one numbered sequence without a gap."""
    if not path.is_dir():
        raise DataError("there is no such folder", str(path), "look at its name")
    files: dict[Split, list[Path]] = {split: [] for split in SPLITS}
    try:
        names = sorted(os.listdir(path))
    except PermissionError as error:
        raise SurroundingsError("no permission to read this", str(path), f"chmod u+rx '{path}'") from error
    for file in (path / name for name in names):
        named = _splits_of(file.name)
        if len(named) > 1:
            raise DataError(
                f"{file.name} speaks of training and of validation: nobody can tell which",
                str(file),
                "rename it",
            )
        for split in named:
            if not file.is_file():
                raise DataError(f"{file.name} is no file", str(file), "fetch it again, or move it elsewhere")
            files[split].append(file)
    if "train" in splits and not files["train"]:
        raise DataError("no training tokens: no file is named train", str(path), "fineweb_train_000001.bin …")
    if "validation" in splits and not files["validation"]:
        raise DataError(
            "no validation tokens: no file is named val",
            str(path),
            "rename the last training file, train to val",
        )
    for split in splits:
        _refuse_gaps(files[split])
    return files


def _refuse_gaps(files: list[Path]) -> None:
    """One set of files, numbered one after the other from whatever number."""
    parts = [(*_parts(file), file) for file in files]
    first = parts[0]
    for prefix, _, file in parts:
        if (prefix, file.suffix) != (first[0], first[2].suffix):
            raise DataError(
                f"{first[2].name} and {file.name} belong to different sets",
                str(file),
                "a folder for each set",
            )
    numbered = sorted((int(digits or 0), digits, file) for _, digits, file in parts)
    for (before, _, _), (number, digits, file) in pairwise(numbered):
        if number == before:
            raise DataError(f"{file.name} is there twice under one number", str(file), "move one elsewhere")
        if number != before + 1:
            missing = f"{first[0]}{before + 1:0{len(digits)}d}{file.suffix}"
            raise DataError(f"{missing} is missing", str(file.with_name(missing)), "fetch it")


def _parts(file: Path) -> tuple[str, str]:
    """What stands before the number that a name ends with, and that number's digits, if there are any."""
    found = _NUMBERED.fullmatch(file.stem)
    assert found is not None  # both halves may be empty
    return found[1], found[2]


def _size(files: dict[Split, list[Path]]) -> int:
    return sum(file.stat().st_size for found in files.values() for file in found)


@dataclass(frozen=True)
class _Found:
    """What reading a file through has shown, and by what to know whether it is still that file."""

    size: int
    mtime_ns: int
    sha256: str
    """Of the whole file."""
    lowest: int
    highest: int
    """Of its ids."""


class _Index:
    """What was found in a folder's files, in the cache under the folder's name, sealed."""

    def __init__(self, file: Path, found: dict[str, _Found]) -> None:
        self.file = file
        self.found = found

    @classmethod
    def of(cls, folder: Path) -> _Index:
        """The index of a folder; an empty one where none is kept, or where it is damaged."""
        name = sha256_of_lines([str(folder.resolve())])[:16]
        file = cache_dir() / "foreign" / f"{name}.json"
        if not file.exists():
            return cls(file, {})
        try:
            return cls(file, cls._read(file))
        except DataError as error:
            log.warning("%s; making it again", error)
            return cls(file, {})

    @staticmethod
    def _read(file: Path) -> dict[str, _Found]:
        fields = unseal(read_small(file), str(file))
        if fields.get("kind") != KIND or fields.get("version") != VERSION:
            return {}
        try:
            return {str(path): _Found(**found) for path, found in fields["files"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError("this is no index", str(file), "delete it") from error

    def look_up(self, file: Path, state: os.stat_result) -> _Found | None:
        """What was found in a file, if it has the same size and time as then."""
        found = self.found.get(str(file.resolve()))
        same = found is not None and (found.size, found.mtime_ns) == (state.st_size, state.st_mtime_ns)
        return found if same else None

    def keep(self, file: Path, found: _Found) -> None:
        """Add one file; written at once, so that reading a large set can be interrupted."""
        self.found[str(file.resolve())] = found
        files = {path: asdict(each) for path, each in self.found.items()}
        with replacing(self.file) as written:
            written.write(seal({"kind": KIND, "version": VERSION, "files": files}).encode())


def _open(path: Path, check: _Check) -> tuple[Ids, str]:
    """The mapped ids of one file, and the SHA-256 of all its bytes."""
    with reading(path) as file:
        layout = read_layout(path, file, check.vocab_size)
        digest = check.run(path, file, layout)
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(view, layout.dtype, layout.count, layout.offset), digest


class _Check:
    """Reads files through, once each, and says how far it is."""

    def __init__(self, vocab_size: int, index: _Index, verify: bool, progress: Progress, total: int) -> None:
        self.vocab_size = vocab_size
        self.index = index
        self.verify = verify
        self.progress = progress
        self.total = total
        self.done = 0

    def run(self, path: Path, file: BufferedReader, layout: Layout) -> str:
        """The SHA-256 of an open file whose ids are all in the vocabulary, from the index where it knows it."""
        state = os.fstat(file.fileno())
        found = self.index.look_up(path, state)
        if found is not None and found.lowest >= 0 and found.highest < self.vocab_size:
            self.done += state.st_size
            self.progress("check", self.done, self.total)
            return found.sha256
        if not self.verify:
            return f"{UNVERIFIED} {state.st_size}"
        digest, lowest, highest = self._scan(path, file, layout)
        if _stamp(os.fstat(file.fileno())) != _stamp(state):
            raise _changed(path)
        self.index.keep(path, _Found(state.st_size, state.st_mtime_ns, digest, lowest, highest))
        return digest

    def _scan(self, path: Path, file: BufferedReader, layout: Layout) -> tuple[str, int, int]:
        file.seek(0)
        digest = hashlib.sha256(file.read(layout.offset))
        self.done += layout.offset
        position, lowest, highest = 0, self.vocab_size, -1
        for ids in _blocks(file, layout):
            digest.update(ids.data)
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= self.vocab_size:
                wrong = int(np.flatnonzero((ids < 0) | (ids >= self.vocab_size))[0])
                raise DataError(
                    f"token {position + wrong} of {path.name} is {int(ids[wrong])}, outside the vocabulary of "
                    f"{self.vocab_size}",
                    str(path),
                    "the tokenizer that made it",
                )
            position, lowest, highest = position + len(ids), min(lowest, low), max(highest, high)
            self.done += ids.nbytes
            self.progress("check", self.done, self.total)
        if position != layout.count:
            raise _changed(path)
        return digest.hexdigest(), lowest, highest


def _blocks(file: BufferedReader, layout: Layout) -> Iterator[Ids]:
    """The ids of an open file, from where it stands, in pieces that share one buffer."""
    buffer = bytearray(BLOCK)
    while size := file.readinto(buffer):
        yield np.frombuffer(buffer, layout.dtype, size // layout.dtype.itemsize)


def _stamp(state: os.stat_result) -> tuple[int, int]:
    return state.st_size, state.st_mtime_ns


def _changed(path: Path) -> DataError:
    return DataError(f"{path.name} changed while it was read", str(path), "try again")
