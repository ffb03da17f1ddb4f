"""The jobs, in order, and their tasks. Any engine that can call `perform` for each task of a job can make a corpus.

annotate  a unit      what is measured of each page (the only one that takes long)
select    a unit      which rule drops it
sign      a unit      MinHash signatures of what stands
match     a bucket    which documents share it
cluster   all         who is a copy of whom, and who stays
finish    a unit      what is kept and what is not, as files
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from primer.corpus.refine import finish, near, select
from primer.corpus.refine.pages import batches, read
from primer.corpus.refine.plan import Plan
from primer.corpus.refine.stages import Watch, annotate
from primer.corpus.refine.store import annotated, parquet_file

JOBS = ("annotate", "select", "sign", "match", "cluster", "finish")
ROWS = 512
"""Rows that are written to a file at a time."""

Progress = Callable[[int, int], None]


def tasks(plan: Plan, job: str) -> list[str]:
    """The names of a job's tasks."""
    if job == "match":
        return near.match_tasks(plan)
    if job == "cluster":
        return ["all"]
    return [unit.name for unit in plan.units]


def is_done(plan: Plan, job: str, task: str) -> bool:
    """Whether its receipt is there, and all that it names as it was written."""
    return plan.store.receipt(job, plan.keys[job], task) is not None


def perform(
    plan: Plan,
    job: str,
    task: str,
    *,
    watch: Watch = lambda identity: None,
    progress: Progress = lambda pages, size: None,
    poison: frozenset[str] = frozenset(),
) -> None:
    """Do one task and write its receipt. It may be done again at any time, with the same result."""
    if job == "annotate":
        files, tally = _annotate(plan, task, watch, progress, poison)
    elif job == "match":
        files, tally = near.match(plan, task)
    elif job == "cluster":
        files, tally = near.cluster(plan)
    else:
        work = {"select": _select, "sign": near.sign, "finish": finish.finish}[job]
        files, tally = work(plan, task)
    plan.store.sign(job, plan.keys[job], task, files, tally)


def _annotate(
    plan: Plan, task: str, watch: Watch, progress: Progress, poison: frozenset[str]
) -> tuple[dict[Path, str], dict[str, Any]]:
    import pyarrow as pa

    (unit,) = [unit for unit in plan.units if unit.name == task]
    rows = 0
    with ExitStack() as stack:
        write, files = stack.enter_context(parquet_file(plan.folder("annotate") / f"{task}.parquet"))
        held: list[Any] = []
        for batch in batches(read(unit, plan.inputs, plan.recipe)):
            found = annotate(batch, plan.tools, watch, poison)
            progress(found.num_rows, sum(batch["bytes"].to_pylist()))
            held.append(found)
            rows += found.num_rows
            if sum(each.num_rows for each in held) >= ROWS:
                write(pa.Table.from_batches(held))
                held = []
        if held:
            write(pa.Table.from_batches(held))
    return files, {"rows": rows}


def _select(plan: Plan, task: str) -> tuple[dict[Path, str], dict[str, Any]]:
    import pyarrow as pa

    with parquet_file(plan.folder("select") / f"{task}.parquet") as (write, files):
        for table in annotated(plan, task, select.columns(plan.recipe)):
            stages, reasons = select.decide(table, plan.recipe)
            write(
                pa.table({"stage": pa.array(stages, pa.string()), "reason": pa.array(reasons, pa.string())})
            )
    return files, {}
