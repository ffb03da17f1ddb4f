"""A corpus on one machine: the jobs in order, each in several processes, what is done already left as it is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from primer.assets import write_atomically, writing
from primer.corpus.refine.jobs import JOBS, is_done, tasks
from primer.corpus.refine.plan import Plan, keep
from primer.corpus.refine.workers import Workers
from primer.lock import RunLock

Progress = Callable[[str, int, int, int], None]
"""Called with a job, tasks done, all of them, and the pages so far."""


@dataclass
class Outcome:
    """What a run did, and what it found done."""

    done: dict[str, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)


def run(plan: Plan, processes: int, progress: Progress = lambda job, done, total, pages: None) -> Outcome:
    """Do what is not done yet. Killed at any moment, the same call goes on, to the same bytes."""
    outcome = Outcome()
    job, pages, done, total = "", 0, 0, 0

    def heard(more: int, size: int) -> None:
        nonlocal pages
        pages += more
        progress(job, done, total, pages)

    with at_work(plan), Workers(plan.out, processes, heard) as workers:
        for job in JOBS:
            names = tasks(plan, job)
            left = [task for task in names if not is_done(plan, job, task)]
            outcome.found[job] = len(names) - len(left)
            outcome.done[job] = len(left)
            done, total = len(names) - len(left), len(names)
            progress(job, done, total, pages)
            if left:
                blamed = Blamed(plan.folder(job))
                workers.run(job, left, blamed.of, blamed.add)
    if hasattr(os, "sync"):  # once, for everything
        os.sync()
    plan.store.forget({plan.folder(job) for job in JOBS})
    _sweep_others(plan)
    return outcome


@contextmanager
def at_work(plan: Plan) -> Iterator[None]:
    """Nobody else works in the folder meanwhile, and the plan lies there. SurroundingsError where somebody does."""
    with writing(plan.out):
        plan.out.mkdir(parents=True, exist_ok=True)
    with RunLock(plan.out, "this corpus is being made"):
        keep(plan)
        yield


def _sweep_others(plan: Plan) -> None:
    """Remove what was made of inputs that the plan no longer has: a reader takes every file for the corpus'."""
    names = {f"{unit.name}.parquet" for unit in plan.units}
    for path in [*plan.out.glob("kept/*"), *plan.out.glob("dropped/*/*")]:
        if path.name not in names and path.name.endswith(".parquet"):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Blamed:
    """Pages at which a process died, kept beside what a job makes, so that they are left out next time too."""

    folder: Path

    def of(self, task: str) -> list[str]:
        """Their ids."""
        with suppress(OSError, ValueError):
            return list(map(str, json.loads(self._file(task).read_text("utf-8"))))
        return []

    def add(self, task: str, page: str) -> None:
        """Remember one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file(task), json.dumps([*self.of(task), page]))

    def _file(self, task: str) -> Path:
        return self.folder / f"{task}.crashed"
