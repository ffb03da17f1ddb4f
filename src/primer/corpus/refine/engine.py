"""The same jobs as steps of datatrove, under its executors: Local, Slurm and Ray. What they make is the same, byte for
byte, as what `run.py` makes.

The corpus' folder must be one that all machines see. Each rank takes every n-th task of a job that has no receipt yet,
and does them in a worker process of its own, so that a page that kills a parser is survived here too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

try:
    from datatrove.pipeline.base import PipelineStep
except ImportError as error:
    from primer.errors import missing_extra

    raise missing_extra("datatrove", "cluster") from error

from primer.corpus.refine.jobs import JOBS, is_done, tasks
from primer.corpus.refine.plan import Plan, open_plan
from primer.corpus.refine.run import Blamed
from primer.corpus.refine.workers import Workers

Engine = Literal["local", "slurm", "ray"]


class Step(PipelineStep):  # type: ignore[misc]  # datatrove is not typed
    """One job, as a datatrove pipeline of one step."""

    type = "🍷 - CORPUS"

    def __init__(self, out: Path, job: str) -> None:
        self.name = f"primer: {job}"
        super().__init__()
        self.out, self.job = out, job

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Do this rank's share of the tasks."""
        plan = open_plan(self.out)
        mine = [task for task in tasks(plan, self.job)[rank::world_size] if not is_done(plan, self.job, task)]
        if not mine:
            return
        blamed = Blamed(plan.folder(self.job))
        with Workers(self.out, 1, self._seen) as workers, self.track_time():
            workers.run(self.job, mine, blamed.of, blamed.add)

    def _seen(self, pages: int, size: int) -> None:
        self.stat_update("pages", value=pages)


def executors(plan: Plan, engine: Engine, ranks: int, **options: Any) -> list[Any]:
    """One executor a job, each behind the one before it; `options` go to datatrove's constructor (Slurm's partition …).

    Deduplication is three of them: signatures, buckets, clusters. What datatrove itself thinks was done is not asked:
    receipts know it, and for which recipe.
    """
    found: list[Any] = []
    for job in JOBS:
        count = min(ranks, len(tasks(plan, job)))
        common = {
            "pipeline": [Step(plan.out, job)],
            "tasks": max(count, 1),
            "logging_dir": str(plan.out / "work" / "logs" / job),
            "skip_completed": False,
            "depends": found[-1] if found else None,
            **options,
        }
        found.append(_executor(engine, f"primer-{job}", max(count, 1), common))
    return found


def _executor(engine: Engine, name: str, count: int, options: dict[str, Any]) -> Any:
    if engine == "slurm":
        from datatrove.executor.slurm import SlurmPipelineExecutor

        return SlurmPipelineExecutor(job_name=name, **options)
    if engine == "ray":
        from datatrove.executor.ray import RayPipelineExecutor

        return RayPipelineExecutor(workers=count, **options)
    from datatrove.executor.local import LocalPipelineExecutor

    return LocalPipelineExecutor(workers=count, **options)


def launch(plan: Plan, engine: Engine, ranks: int, **options: Any) -> None:
    """Do all jobs, or with Slurm submit them. Done again, only what has no receipt is done."""
    executors(plan, engine, ranks, **options)[-1].run()
