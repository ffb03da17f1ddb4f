"""From a file's bytes to documents, lines and records: text, JSON lines (packed or not), Parquet. All of it streams."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from primer.assets import BLOCK, reading
from primer.corpus.document import Document
from primer.errors import DataError, SurroundingsError, UsageError, missing_extra

MAX_LINE = 1 << 26
"""Bytes of the longest record that is read from a .jsonl file (which, unlike text, is held as a whole)."""

_BOMS = (  # the longer first: UTF-32's mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF8, "utf-8"),
)


@dataclass(frozen=True)
class Decoding:
    """How a file becomes text: a codec, what to do with bytes that it does not know, where a record keeps it."""

    encoding: str = "utf-8"
    errors: str = "strict"
    field: str = "text"
    """The key of a JSON line, the column of a Parquet file."""

    def __post_init__(self) -> None:
        try:
            b"a".decode(self.encoding, "replace")
            codecs.getincrementaldecoder(self.encoding)
        except (LookupError, UnicodeError) as error:
            raise UsageError(f"unknown encoding {self.encoding!r}", hint="--data.encoding=utf-8") from error
        if self.errors not in ("strict", "replace", "ignore"):
            raise UsageError(
                f"unknown way with encoding errors {self.errors!r}", hint="strict, replace or ignore"
            )


def require_regular(path: Path) -> None:
    """Refuse, before opening it, what would block or never end: a FIFO, a device, a socket."""
    kinds = (
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISDIR, "a folder"),
    )
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=str(path), hint="look at its name") from error
    except PermissionError as error:
        raise SurroundingsError(
            "no permission to look at this", str(path), "other rights on its folder"
        ) from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", str(path), "another file") from error
    for test, kind in kinds:
        if test(mode):
            raise DataError(
                f"this is {kind}, not a file", where=str(path), hint="name a file or folder of text"
            )


PACKED = (".gz", ".zst")
"""Endings of files that are unpacked while they are read."""


def unpacked_suffix(path: Path) -> str:
    """What a file is by its name: `.jsonl` for `c4.jsonl.gz`."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in PACKED else suffix


@contextmanager
def unpacking(path: Path) -> Iterator[BinaryIO]:
    """Open a file to read its bytes, unpacked where its ending says that it is packed."""
    with reading(path) as file:
        suffix = path.suffix.lower()
        if suffix not in PACKED:
            yield file
            return
        broken: tuple[type[Exception], ...] = (EOFError, zlib.error, gzip.BadGzipFile)
        try:
            if not file.peek(1):  # neither reader would say so
                raise EOFError("it is empty")
            if suffix == ".gz":
                yield cast(BinaryIO, gzip.GzipFile(fileobj=file))
            else:
                pyarrow = _pyarrow()
                broken = (OSError, pyarrow.ArrowException)
                yield io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"), BLOCK)
        except broken as error:
            raise DataError(
                f"not a readable {suffix} file ({error})", where=str(path), hint="pack or fetch it again"
            ) from error


def read_text(path: Path, name: str, decoding: Decoding) -> Iterator[Document]:
    """A text file in pieces of about a megabyte, however long its lines.

    A byte order mark chooses the encoding and is dropped; `\\r\\n` and `\\r` become `\\n`. Raises DataError,
    with the byte's offset, for bytes that are not text.
    """
    with unpacking(path) as file:
        start = file.read(4)
        skip, encoding = _encoding(start, decoding.encoding)
        decode = _decoder(path, encoding, decoding.errors, offset=skip)
        newlines = io.IncrementalNewlineDecoder(None, translate=True)
        part = 0
        block = start[skip:] + file.read(max(1, BLOCK - len(start)))
        while True:
            text = newlines.decode(decode(block), final=not block)
            if text:
                yield Document(text, name, part)
                part += 1
            if not block:
                return
            block = file.read(BLOCK)


def read_lines(path: Path, decoding: Decoding) -> Iterator[str]:
    """The lines of a text file without what ends them: `\\n`, `\\r\\n` or `\\r`, nothing else; the last may lack it.

    (`str.splitlines` would cut at form feeds and at U+2028 too, and two texts would no longer go line by line.)
    Raises as `read_text` does, and DataError for a line of more than `MAX_LINE` characters.
    """
    rest, number = "", 1
    for piece in read_text(path, path.name, decoding):
        *lines, rest = (rest + piece.text).split("\n")
        number += len(lines)
        yield from lines
        if len(rest) > MAX_LINE:
            where = f"{path}, line {number}"
            raise DataError(f"a line of more than {MAX_LINE:,} characters", where, "one sentence a line")
    if rest:
        yield rest


def count_lines(path: Path, decoding: Decoding) -> int:
    """How many lines `read_lines` finds in a file."""
    count, last = 0, "\n"
    for piece in read_text(path, path.name, decoding):
        count += piece.text.count("\n")
        last = piece.text[-1]
    return count + (last != "\n")


def _encoding(start: bytes, asked: str) -> tuple[int, str]:
    """(bytes to skip, codec): a byte order mark wins over the default, not over another that is asked for."""
    asked = codecs.lookup(asked).name
    for mark, encoding in _BOMS:
        if start.startswith(mark) and asked in ("utf-8", "utf-8-sig", encoding, encoding[:6]):
            return len(mark), encoding
    return 0, asked


def _decoder(path: Path, encoding: str, errors: str, offset: int) -> Callable[[bytes], str]:
    """A function that decodes block after block (an empty one ends), naming the offset of what is no text."""
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    wide = encoding.startswith(("utf-16", "utf-32"))  # where zero bytes are ordinary

    def decode(block: bytes) -> str:
        nonlocal offset
        if not wide and (nul := block.find(0)) >= 0:
            raise _binary(path, offset + nul)
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            at = offset - pending + error.start
            other = "cp1252" if encoding == "utf-8" else "utf-8"
            raise DataError(
                f"byte {error.object[error.start]:#04x} at offset {at} is not {encoding} ({error.reason})",
                where=str(path),
                hint=f"--data.encoding={other} if that is what it is, else --data.encoding-errors=replace",
            ) from error
        if wide and "\0" in text:
            raise _binary(path, offset)
        offset += len(block)
        return text

    return decode


def _binary(path: Path, offset: int) -> DataError:
    return DataError(
        f"this is binary, not text: a NUL at byte {offset}",
        where=str(path),
        hint="name a file or folder of text",
    )


def read_jsonl(path: Path, name: str, decoding: Decoding) -> Iterator[Document]:
    """One document a line, under the key `decoding.field`. Raises DataError that names a line that is anything else."""
    for number, record in read_records(path, decoding):
        where = f"{path}, line {number}"
        text = record.get(decoding.field)
        if not isinstance(text, str):
            others = {key: len(value) for key, value in record.items() if isinstance(value, str)}
            longest = max(others, key=lambda key: others[key], default=None)
            hint = f"--data.field={longest}" if longest else 'write lines like {"text": "…"}'
            raise DataError(f'no string under the key "{decoding.field}"', where, hint)
        text, address = checked(text, decoding, where), record.get("id")
        yield Document(text, address if isinstance(address, str) and address else f"{name}#{number}")


def read_records(path: Path, decoding: Decoding) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the line, JSON object), empty lines left out. Raises DataError that names a line that is no object."""
    with unpacking(path) as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            where = f"{path}, line {number}"
            if len(line) > MAX_LINE:
                raise DataError(f"a line of more than {MAX_LINE >> 20} MiB", where, hint="split the record")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield number, _record(line, decoding, where)


def _record(line: bytes, decoding: Decoding, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode(decoding.encoding, decoding.errors))
    except UnicodeDecodeError as error:
        raise DataError(
            f"byte {error.start} of the line is not {decoding.encoding}",
            where,
            "--data.encoding-errors=replace",
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError("this line is not JSON", where, hint="one JSON object a line") from error
    if not isinstance(record, dict):
        raise DataError("this line is no JSON object", where, hint="one JSON object a line")
    return record


def read_parquet(path: Path, name: str, decoding: Decoding) -> Iterator[Document]:
    """One document a row, from the column `decoding.field`. Needs pyarrow, which the extra [corpus] brings."""
    pyarrow = _pyarrow()
    try:
        with reading(path) as file:
            table = pyarrow.parquet.ParquetFile(file)
            if decoding.field not in table.schema_arrow.names:
                texts = (pyarrow.types.is_string, pyarrow.types.is_large_string)
                columns = [
                    each.name for each in table.schema_arrow if any(is_text(each.type) for is_text in texts)
                ]
                hint = f"--data.field={columns[0]}" if columns else "a file with a column of text"
                raise DataError(f'no column "{decoding.field}"', where=str(path), hint=hint)
            number = 0
            for batch in table.iter_batches(batch_size=256, columns=[decoding.field]):
                for text in batch.column(0).to_pylist():
                    number += 1
                    where = f"{path}, row {number}"
                    if not isinstance(text, str):
                        raise DataError("this row holds no text", where, hint="drop such rows")
                    yield Document(checked(text, decoding, where), f"{name}#{number}")
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"not a readable Parquet file ({error})", where=str(path), hint="write or fetch it again"
        ) from error


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("pyarrow", "corpus") from error
    return pyarrow


def checked(text: str, decoding: Decoding, where: str) -> str:
    """The text with `\\n` for every line end, without what can get past a decoder: NULs, half surrogate pairs."""
    if "\0" in text:
        raise DataError(
            f"a NUL at character {text.index(chr(0))}: this is binary, not text", where, "drop it"
        )
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        if decoding.errors == "strict":
            raise DataError(
                f"half a surrogate pair at character {error.start}", where, "--data.encoding-errors=replace"
            ) from error
        # The encoder's "replace" would write "?": the decoder's, U+FFFD, is what the flag promises.
        text = text.encode("utf-8", "surrogatepass").decode("utf-8", decoding.errors)
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
