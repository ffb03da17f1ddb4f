"""Where everything of one corpus lies, and the receipts by which work is never done twice and never half believed.

    recipe.toml  plan.json        what is done, to what
    work/<job>-<key>/<task>.*     what a job made of a task, and its receipt
    kept/  dropped/<stage>/       Parquet: what is left, and what is not, with the reason
    report.html  report.json

Nothing of it waits for the disk: what a power cut tears has a checksum in its receipt, or has none, and is made again.

A job's key is a hash of all that decides what it makes, that of the job before it included. A receipt holds the key
and the SHA-256 of every file that the task wrote; a task whose receipt fits is not done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, Literal

from primer.assets import replacing, seal, sha256_of, unseal, write_atomically, writing
from primer.errors import DataError, PrimerError

if TYPE_CHECKING:
    from primer.corpus.refine.plan import Plan


@lru_cache(maxsize=1 << 14)
def _digest(path: Path, size: int, changed: int) -> str:
    """SHA-256, once for as long as a file stays as it is."""
    return sha256_of(path)


@dataclass(frozen=True)
class Receipt:
    """What a task has made."""

    key: str
    outputs: dict[str, str]
    """SHA-256 by path, relative to the corpus."""
    tally: dict[str, Any]
    """Counts, for the report."""


@dataclass(frozen=True)
class Store:
    """The folder of a corpus."""

    out: Path

    def folder(self, job: str, key: str) -> Path:
        """Where a job's files lie."""
        return self.out / "work" / f"{job}-{key[:12]}"

    def receipt(self, job: str, key: str, task: str) -> Receipt | None:
        """The receipt of a task, if there is one of this key and all that it names is as it was written."""
        path = self.folder(job, key) / f"{task}.json"
        try:
            fields = unseal(path.read_text("utf-8"), str(path))
            found = Receipt(fields["key"], fields["outputs"], fields["tally"])
        except (OSError, UnicodeDecodeError, PrimerError, KeyError):
            return None
        if found.key != key or not all(self._is(name, digest) for name, digest in found.outputs.items()):
            return None
        return found

    def _is(self, name: str, digest: str) -> bool:
        path = self.out / name
        try:
            state = path.stat()
        except OSError:
            return False
        return S_ISREG(state.st_mode) and _digest(path, state.st_size, state.st_mtime_ns) == digest

    def sign(
        self, job: str, key: str, task: str, files: Mapping[Path, str], tally: Mapping[str, Any]
    ) -> None:
        """Write the receipt: the task is done."""
        outputs = {path.relative_to(self.out).as_posix(): digest for path, digest in files.items()}
        fields = {"key": key, "outputs": outputs, "tally": dict(tally)}
        path = self.folder(job, key) / f"{task}.json"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, seal(fields), durable=False)

    def forget(self, keep: set[Path]) -> None:
        """Remove what jobs of other thresholds made; measurements, which are dear, stay."""
        for folder in (self.out / "work").glob("*-*"):
            if folder not in keep and not folder.name.startswith("annotate-"):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def parquet_file(
    path: Path, packing: Literal["lz4", "zstd"] = "lz4"
) -> Iterator[tuple[Callable[[Any], None], dict[Path, str]]]:
    """(write a batch, {path: SHA-256 when all is written}). The file is whole or absent.

    packing: lz4 is written and read in half the time, for what the next job reads; zstd takes two thirds of the disk.
    """
    import pyarrow.parquet as pq

    digest: dict[Path, str] = {}
    with replacing(path, durable=False) as file:
        writer: Any = None

        def write(table: Any) -> None:
            nonlocal writer
            if writer is None:
                level = 1 if packing == "zstd" else None
                writer = pq.ParquetWriter(file, table.schema, compression=packing, compression_level=level)
            writer.write(table)

        try:
            yield write, digest
        finally:
            if writer is not None:
                writer.close()
    if writer is None:
        path.unlink()
    else:
        digest[path] = sha256_of(path)


def load(path: Path) -> dict[str, Any]:
    """A sealed file of ours, or DataError."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        raise DataError(
            "no corpus is here", str(path.parent), "primer corpus run RECIPE INPUT… --out=FOLDER"
        ) from error
    return unseal(text, str(path))


def save(path: Path, fields: Mapping[str, Any]) -> None:
    """Seal and write."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, seal(json.loads(json.dumps(fields))))


def annotated(plan: Plan, task: str, columns: list[str] | None = None) -> Iterator[Any]:
    """What was measured of a unit, some hundred rows at a time."""
    yield from stored(plan.folder("annotate") / f"{task}.parquet", columns)


def stored(path: Path, columns: list[str] | None = None) -> Iterator[Any]:
    """The row groups of one of our files; nothing where a unit had no rows."""
    import pyarrow.parquet as pq

    if not path.is_file():
        return
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, columns=columns)
