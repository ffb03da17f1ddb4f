"""How far a shard directory was written, so that whoever comes after a killed process goes on from there.

The journal lies in the unfinished directory. It says how many jobs are done, what was counted, and the SHA-256 of
every shard up to the place where it was written; what comes behind that place is cut off.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from primer.assets import left_behind, seal, unseal, write_atomically
from primer.data.manifest import COUNTED, SPLITS, Counts, Shard, Split, read_small
from primer.errors import DataError

JOURNAL = "journal.json"


@dataclass(frozen=True)
class Journal:
    """What is done, as plain values."""

    key: str
    """Of the whole directory, and how it is divided into jobs: another key, another work."""
    jobs: int
    counts: dict[Split, Counts]
    shards: dict[Split, list[Shard]]
    """Finished ones."""
    unfinished: tuple[Split, Shard] | None
    """The one that grows, up to now."""

    def write(self, folder: Path) -> None:
        """Replace the journal of an unfinished directory."""
        write_atomically(folder / JOURNAL, seal({"kind": "primer journal", **asdict(self)}))

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """Raises DataError for what `write` did not write."""
        file = folder / JOURNAL
        fields = unseal(read_small(file), str(file))
        try:
            unfinished = fields["unfinished"]
            return cls(
                key=str(fields["key"]),
                jobs=int(fields["jobs"]),
                counts={
                    split: {name: int(fields["counts"][split][name]) for name in COUNTED} for split in SPLITS
                },
                shards={split: [_shard(each) for each in fields["shards"][split]] for split in SPLITS},
                unfinished=None if unfinished is None else (unfinished[0], _shard(unfinished[1])),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError("the journal is not laid out as one", str(file), "start again") from error


def _shard(fields: dict[str, Any]) -> Shard:
    return Shard(int(fields["count"]), str(fields["sha256"]))


def abandoned(path: Path, key: str) -> tuple[list[tuple[Path, Journal]], list[Path]]:
    """Unfinished directories of `path` that dead processes left: of the same work, the furthest first; of others."""
    same: list[tuple[Path, Journal]] = []
    others: list[Path] = []
    for folder in left_behind(path):
        try:
            journal = Journal.read(folder)
        except DataError:
            continue
        if journal.key == key:
            same.append((folder, journal))
        else:
            others.append(folder)
    return sorted(same, key=lambda each: -each[1].jobs), others
