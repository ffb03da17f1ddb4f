"""Files that hold pairs: two texts that go line by line, columns, JSON lines, gettext's catalogues."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from primer.assets import sha256_of, sha256_of_lines
from primer.corpus.catalogue import read_mo, read_po
from primer.corpus.pair import Pair, Rejected
from primer.corpus.readers import (
    Decoding,
    checked,
    count_lines,
    read_lines,
    read_records,
    require_regular,
    unpacked_suffix,
)
from primer.errors import DataError

Fields = tuple[str, str]
"""What the source's and the target's side are called (a column, a key, a language); both empty where nobody said so."""


def read_aligned(source: Path, target: Path, decoding: Decoding) -> Iterator[Pair]:
    """Line n of one file and line n of the other, which must have as many. Raises DataError where they have not."""
    lines = read_lines(source, decoding), read_lines(target, decoding)
    try:
        for number, (line, translation) in enumerate(zip(*lines, strict=True), start=1):
            yield Pair(line, translation, f"{source.name}:{number}")
    except ValueError as error:
        raise DataError("a text changed while it was read", f"{source}, {target}", "try again") from error


def require_aligned(source: Path, target: Path, decoding: Decoding) -> None:
    """DataError for two files that do not have the same number of lines; both are read through."""
    count, other = count_lines(source, decoding), count_lines(target, decoding)
    if count != other:
        raise DataError(
            f"{source.name} has {count:,} lines and {target.name} has {other:,}: they do not go line by line",
            where=f"{source}, {target}",
            hint="two files of which line n of one translates line n of the other",
        )


def read_tsv(path: Path, decoding: Decoding, fields: Fields) -> Iterator[Pair]:
    """Two columns, parted by tabs; quotation marks are ordinary characters.

    With names the first line is a header that holds both. Without, there is none: the first two columns are read, and
    further ones (a licence, a score) are not. A blank line is a pair that is empty on both sides. Raises DataError that
    names a line with too few columns.
    """
    lines = enumerate(read_lines(path, decoding), start=1)
    columns = 0, 1
    if any(fields):
        header = [cell.strip() for cell in next(lines, (1, ""))[1].split("\t")]
        columns = _column(header, fields[0], path), _column(header, fields[1], path)
    for number, line in lines:
        cells = line.split("\t") if line.strip() else [""] * (max(columns) + 1)
        if len(cells) <= max(columns):
            raise DataError(
                f"{len(cells)} column{'s' * (len(cells) > 1)}, and there should be at least {max(columns) + 1}",
                where=f"{path}, line {number}",
                hint="a tab between a sentence and its translation",
            )
        yield Pair(cells[columns[0]], cells[columns[1]], f"{path.name}:{number}")


def _column(header: list[str], name: str, path: Path) -> int:
    if name not in header:
        raise DataError(
            f'no column "{name}" in the first line: {_listed(header)}',
            where=f"{path}, line 1",
            hint="two of these names, or neither flag where the first line is a pair",
        )
    return header.index(name)


def read_json(path: Path, decoding: Decoding, fields: Fields) -> Iterator[Pair]:
    """One object a line, with a sentence under each of two keys.

    Where there is an object under the key "translation", the keys are in there, as the Hugging Face Hub has it:
    {"translation": {"en": …, "de": …}}. Without names the first line must hold exactly two texts, and their keys, in
    that order, are those of all lines. Raises DataError that names a line without them.
    """
    for number, record in read_records(path, decoding):
        where = f"{path}, line {number}"
        inner = record.get("translation")
        texts: dict[str, Any] = inner if isinstance(inner, dict) else record
        if not any(fields):
            fields = _two_keys(texts, where)
        source, target = (_text(texts, key, decoding, where) for key in fields)
        yield Pair(source, target, f"{path.name}:{number}")


def _two_keys(texts: dict[str, Any], where: str) -> Fields:
    keys = _text_keys(texts)
    if len(keys) != 2:
        raise DataError(
            f"{len(keys)} text{'s' * (len(keys) != 1)} in this line, not two: {_listed(keys)}",
            where,
            _flags(keys),
        )
    return keys[0], keys[1]


def _text(texts: dict[str, Any], key: str, decoding: Decoding, where: str) -> str:
    text = texts.get(key)
    if not isinstance(text, str):
        keys = _text_keys(texts)
        raise DataError(f"no text under the key {key!r}: {_listed(keys)}", where, _flags(keys))
    return checked(text, decoding, where)


def _text_keys(texts: dict[str, Any]) -> list[str]:
    return [key for key, value in texts.items() if isinstance(value, str) and key.isprintable()]


def _flags(keys: list[str]) -> str:
    """What to write so that two of these are read (the last two: what comes before them is often a number)."""
    if len(keys) < 2:
        return 'write lines like {"source": "…", "target": "…"}'
    return f"--data.source-field={keys[-2]} --data.target-field={keys[-1]}"


def _listed(names: list[str]) -> str:
    """For a message: at most eight names, none of them long."""
    shown = [repr(name if len(name) <= 30 else f"{name[:30]}…") for name in names[:8]]
    return ", ".join(shown + ["…"] * (len(names) > 8)) or "there are none"


READERS: dict[str, Callable[[Path, Decoding, Fields, Rejected], Iterator[Pair]]] = {
    ".tsv": lambda path, decoding, fields, _: read_tsv(path, decoding, fields),
    ".jsonl": lambda path, decoding, fields, _: read_json(path, decoding, fields),
    ".po": lambda path, decoding, _, rejected: read_po(path, decoding, rejected),
    ".mo": lambda path, decoding, _, rejected: read_mo(path, decoding, rejected),
}
"""Files that hold both sides, by their endings, and how each is read. Each may be packed: `.tsv.gz`, `.jsonl.zst`."""

WITH_FIELDS = (".tsv", ".jsonl")
"""Endings of files in which the two sides have names."""


def holds_pairs(path: Path) -> bool:
    """Whether a file's ending says that it holds both sides."""
    return unpacked_suffix(path) in READERS


@dataclass(frozen=True)
class Files:
    """One split of a parallel text: a file that holds both sides, or one for each."""

    paths: tuple[Path, ...]
    decoding: Decoding
    fields: Fields = ("", "")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the bytes and everything that says how they are read; names and places do not count."""
        kind = "lines" if len(self.paths) == 2 else unpacked_suffix(self.paths[0])
        how = [kind, self.decoding.encoding, self.decoding.errors, *self.fields]
        return sha256_of_lines([*map(repr, how), *(sha256_of(path) for path in self.paths)])

    @property
    def address(self) -> str:
        """The files."""
        return ", ".join(str(path.absolute()) for path in self.paths)

    def pairs(self, rejected: Rejected) -> Iterator[Pair]:
        """As they are written there."""
        for path in self.paths:
            require_regular(path)
        if len(self.paths) == 2:
            _ = self._aligned
            return read_aligned(self.paths[0], self.paths[1], self.decoding)
        return READERS[unpacked_suffix(self.paths[0])](self.paths[0], self.decoding, self.fields, rejected)

    @cached_property
    def _aligned(self) -> bool:
        """Counting reads both files to their ends: once is enough, since reading notices a change."""
        require_aligned(self.paths[0], self.paths[1], self.decoding)
        return True
