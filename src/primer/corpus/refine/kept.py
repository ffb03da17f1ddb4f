"""What was kept, read again: the documents of a finished corpus in their canonical order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from primer.assets import sha256_of_lines
from primer.corpus.refine.jobs import is_done, tasks
from primer.corpus.refine.plan import Plan, open_plan
from primer.corpus.refine.store import stored
from primer.errors import DataError


@dataclass(frozen=True, slots=True)
class Kept:
    """One document of a corpus."""

    id: str
    text: str
    source: str
    url: str
    cluster: str
    """The id of the document that stands for it and its copies: its own, where it had none."""

    def is_held_out(self, fraction: float) -> bool:
        """Whether it is for validation: by hash of its cluster, so that copies never lie on both sides."""
        return by_hash(self.cluster) < fraction * 2**64


def by_hash(name: str) -> int:
    """A number below 2^64 that follows from a name, and from nothing else."""
    return int.from_bytes(
        hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


def is_finished(plan: Plan) -> bool:
    """Whether every task of the last job has been done, and all its files are as they were written."""
    return all(is_done(plan, "finish", task) for task in tasks(plan, "finish"))


@dataclass(frozen=True)
class Corpus:
    """A corpus that is finished. DataError where it is not."""

    plan: Plan

    @classmethod
    def open(cls, out: Path) -> Corpus:
        """Raises DataError for a folder without a corpus, and for one that is not whole."""
        plan = open_plan(out)
        if not is_finished(plan):
            raise DataError("this corpus is not finished", str(out), "the same `primer corpus run` again")
        return cls(plan)

    @property
    def size(self) -> int:
        """How many documents were kept."""
        tallies = (
            self.plan.store.receipt("finish", self.plan.keys["finish"], unit.name) for unit in self.plan.units
        )
        return sum(tally.tally["counts"].get("kept", {"": [0]}).popitem()[1][0] for tally in tallies if tally)

    @property
    def key(self) -> str:
        """What it was made from and how: equal keys, equal documents."""
        plan = self.plan
        inputs = [f"{each.name} {each.sha256}" for each in plan.inputs]
        return sha256_of_lines([plan.keys["finish"], *inputs])

    def documents(self) -> Iterator[Kept]:
        """All of them, in the order of the inputs' names, whatever did the work."""
        names = ["id", "text", "source", "url", "cluster"]
        for unit in self.plan.units:
            for table in stored(self.plan.out / "kept" / f"{unit.name}.parquet", names):
                for row in table.to_pylist():
                    yield Kept(row["id"], row["text"], row["source"], row["url"], row["cluster"] or row["id"])
