"""Who is a copy of whom: exact copies by a hash of the text, near ones by MinHash. Three jobs, as an engine runs them.

sign      a unit      the hash and the signature of each document that stands so far
match     a bucket    who agrees in it, in all units of a group
cluster   all         clusters, over all buckets and groups; the first document of each stays
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from primer.assets import sha256_of
from primer.corpus.duplicates import exact
from primer.corpus.duplicates.buckets import write_pairs
from primer.corpus.duplicates.clusters import clusters, read_clusters, sizes, write_clusters
from primer.corpus.duplicates.minhash import MinHash
from primer.corpus.duplicates.signatures import write_signatures
from primer.corpus.duplicates.simplify import simplify
from primer.corpus.refine.plan import Plan
from primer.corpus.refine.store import annotated, parquet_file, stored
from primer.corpus.text.words import words

Numbers = npt.NDArray[np.int64]
Done = tuple[dict[Path, str], dict[str, Any]]

EXACT, MINHASH = "exact", "minhash"


def _scheme(plan: Plan) -> MinHash:
    dedup = plan.recipe.dedup
    return MinHash(dedup.n_grams, dedup.buckets, dedup.rows, dedup.seed)


def _kinds(plan: Plan) -> list[str]:
    return [kind for kind in (EXACT, MINHASH) if getattr(plan.recipe.dedup, kind)]


def sign(plan: Plan, task: str) -> Done:
    """Hashes and signatures of what stands of a unit, and which rows that is."""
    import pyarrow as pa

    scheme = _scheme(plan)
    rows: list[int] = []
    hashes, signatures = [], []
    start = 0
    with parquet_file(plan.folder("sign") / f"{task}.parquet") as (write, files):
        decisions = stored(plan.folder("select") / f"{task}.parquet", ["stage"])
        for table, decided in zip(annotated(plan, task, ["id", "text", "clean"]), decisions, strict=True):
            standing = np.flatnonzero(decided["stage"].is_null().to_numpy())
            chosen = table.take(standing)
            texts = [clean or text for text, clean in zip(*_texts(chosen), strict=True)]
            rows += (start + standing).tolist()
            hashes.append(exact.signatures(texts))
            signatures.append(scheme.signatures(words(simplify(text)) for text in _if(plan, texts)))
            write(pa.table({"row": pa.array(start + standing, pa.int64()), "id": chosen["id"]}))
            start += table.num_rows
    made = {EXACT: (hashes, exact.SCHEME, (0, 1, 2)), MINHASH: (signatures, scheme.scheme, _shape(plan))}
    found = dict(files)
    for kind in _kinds(plan):
        parts, name, shape = made[kind]
        path = plan.folder("sign") / f"{task}.{kind}"
        write_signatures(path, np.concatenate(parts) if parts else np.empty(shape, np.uint64), name)
        found[path] = sha256_of(path)
    return found, {"documents": len(rows)}


def _texts(table: Any) -> tuple[list[str], list[str | None]]:
    return table["text"].to_pylist(), table["clean"].to_pylist()


def _if(plan: Plan, texts: list[str]) -> list[str]:
    return texts if plan.recipe.dedup.minhash else []


def _shape(plan: Plan) -> tuple[int, int, int]:
    return 0, plan.recipe.dedup.buckets, plan.recipe.dedup.rows


def match_tasks(plan: Plan) -> list[str]:
    """A task a group and bucket; the exact hash is a bucket of its own."""
    buckets = {EXACT: 1, MINHASH: plan.recipe.dedup.buckets}
    return [
        f"{group:05d}-{kind}-{bucket:02d}"
        for group in range(len(plan.groups))
        for kind in _kinds(plan)
        for bucket in range(buckets[kind])
    ]


def match(plan: Plan, task: str) -> Done:
    """The pairs of one bucket."""
    group, kind, bucket = task.split("-")
    path = plan.folder("match") / f"{task}.pairs"
    write_pairs(path, _signed(plan, _group(plan, int(group)), kind), int(bucket))
    return {path: sha256_of(path)}, {}


def _group(plan: Plan, number: int) -> list[str]:
    """Names of a group's units."""
    return [plan.units[unit].name for unit in list(plan.groups.values())[number]]


def _signed(plan: Plan, units: Iterable[str], kind: str) -> list[Path]:
    return [plan.folder("sign") / f"{unit}.{kind}" for unit in units]


def cluster(plan: Plan) -> Done:
    """For each unit: of its documents that stood, the cluster, its size, and whether it goes as a copy."""
    files: dict[Path, str] = {}
    copies = {"exact_duplicate": 0, "near_duplicate": 0}
    for number in range(len(plan.groups)):
        units = _group(plan, number)
        standing = [_rows(plan, unit) for unit in units]
        starts = np.cumsum([0, *(len(rows) for rows, _ in standing)])
        labels = {kind: _labels(plan, number, kind, units) for kind in _kinds(plan)}
        numbers = np.arange(starts[-1])
        pairs = [np.stack([numbers, found], axis=1) for found in labels.values()]
        both = clusters(int(starts[-1]), np.concatenate([np.empty((0, 2), np.int64), *pairs]))
        counts = sizes(both)
        exactly = labels.get(EXACT, numbers)
        for unit, (rows, _), start in zip(units, standing, starts, strict=False):
            here = slice(int(start), int(start) + len(rows))
            reasons = [
                None if label == own else "exact_duplicate" if same != own else "near_duplicate"
                for own, label, same in zip(numbers[here], both[here], exactly[here], strict=True)
            ]
            names = _ids(both[here], starts, standing)
            files |= _write(plan, unit, rows, names, counts[here], reasons)
            for reason in reasons:
                if reason:
                    copies[reason] += 1
    return files, copies


def _rows(plan: Plan, unit: str) -> tuple[Numbers, Sequence[str]]:
    """(rows, ids) of what stood of a unit."""
    tables = list(stored(plan.folder("sign") / f"{unit}.parquet"))
    rows = [table["row"].to_numpy() for table in tables]
    ids = [name for table in tables for name in table["id"].to_pylist()]
    return np.concatenate(rows) if rows else np.empty(0, np.int64), ids


def _labels(plan: Plan, group: int, kind: str, units: list[str]) -> Numbers:
    """Labels of all documents of a group by one way of comparing."""
    tasks = [task for task in match_tasks(plan) if task.startswith(f"{group:05d}-{kind}-")]
    paths = [plan.folder("cluster") / f"{unit}.{kind}" for unit in units]
    write_clusters(
        paths, _signed(plan, units, kind), [plan.folder("match") / f"{task}.pairs" for task in tasks]
    )
    found = [read_clusters(path).labels for path in paths]
    for path in paths:
        path.unlink()
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _ids(labels: Numbers, starts: Numbers, standing: list[tuple[Numbers, Sequence[str]]]) -> list[str]:
    """The id of each label's document."""
    units = np.searchsorted(starts, labels, side="right") - 1
    return [
        standing[unit][1][label - starts[unit]]
        for label, unit in zip(labels.tolist(), units.tolist(), strict=True)
    ]


def _write(
    plan: Plan, unit: str, rows: Numbers, names: list[str], counts: Numbers, reasons: list[str | None]
) -> dict[Path, str]:
    import pyarrow as pa

    with parquet_file(plan.folder("cluster") / f"{unit}.parquet") as (write, files):
        columns = {
            "row": pa.array(rows, pa.int64()),
            "cluster": pa.array(names, pa.string()),
            "size": pa.array(counts, pa.int64()),
            "reason": pa.array(reasons, pa.string()),
        }
        write(pa.table(columns))
    return files
