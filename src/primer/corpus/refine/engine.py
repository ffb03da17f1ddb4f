"""The same jobs as steps of datatrove, under its executors: Local, Slurm and Ray. What they make is the same, byte for
byte, as what `run.py` makes.

The corpus' folder must be one that all machines see. Each rank takes every n-th task of a job that has no receipt yet,
and does them in a worker process of its own, so that a page that kills a parser is survived here too.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

try:
    from datatrove.pipeline.base import PipelineStep
except ImportError as error:
    from primer.errors import missing_extra

    raise missing_extra("datatrove", "cluster") from error

from primer.corpus.refine.jobs import JOBS, is_done, tasks
from primer.corpus.refine.plan import Plan, open_plan
from primer.corpus.refine.run import Blamed, at_work
from primer.corpus.refine.workers import Workers
from primer.errors import PrimerError, UsageError

Engine = Literal["local", "slurm", "ray"]


PHASES = (("annotate", "select", "sign"), ("match",), ("cluster",), ("finish",))
"""What each executor does: jobs of which each unit can go on to the next by itself; then what needs all of them."""


class Step(PipelineStep):  # type: ignore[misc]  # datatrove is not typed
    """Some jobs, as a datatrove pipeline of one step."""

    type = "🍷 - CORPUS"

    def __init__(self, out: Path, jobs: Sequence[str]) -> None:
        self.name = f"primer: {', '.join(jobs)}"
        super().__init__()
        self.out, self.jobs = out, tuple(jobs)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Do this rank's share of the tasks."""
        plan = open_plan(self.out)
        with Workers(self.out, 1, self._seen) as workers, self.track_time():
            for job in self.jobs:
                mine = tasks(plan, job)[rank::world_size]
                left = [task for task in mine if not is_done(plan, job, task)]
                if left:
                    blamed = Blamed(plan.folder(job))
                    workers.run(job, left, blamed.of, blamed.add)

    def _seen(self, pages: int, size: int) -> None:
        self.stat_update("pages", value=pages)


def executors(plan: Plan, engine: Engine, ranks: int, **options: Any) -> list[Any]:
    """One executor a phase, each behind the one before it; `options` go to datatrove's (Slurm's partition …).

    Deduplication is three of them: signatures at the end of the first, buckets, clusters. What datatrove itself thinks
    was done is not asked: receipts know it, and for which recipe.
    """
    assert [job for phase in PHASES for job in phase] == list(JOBS)
    found: list[Any] = []
    for phase in PHASES:
        count = max(min(ranks, len(tasks(plan, phase[0]))), 1)
        common = {
            "pipeline": [Step(plan.out, phase)],
            "tasks": count,
            "logging_dir": str(plan.out / "work" / "logs" / phase[0]),
            "skip_completed": False,
            "depends": found[-1] if found else None,
            **options,
        }
        found.append(_executor(engine, f"primer-{phase[0]}", count, common))
    return found


def _executor(engine: Engine, name: str, count: int, options: dict[str, Any]) -> Any:
    if engine == "slurm":
        from datatrove.executor.slurm import SlurmPipelineExecutor

        if not options.get("partition"):
            raise UsageError(
                "Slurm needs the name of a partition", hint="--slurm-partition=NAME (sinfo -s lists them)"
            )
        here = shlex.quote(str(Path(sys.executable).parent))  # whatever was activated where it is submitted
        options = {"env_command": f"export PATH={here}:$PATH", **options}
        return SlurmPipelineExecutor(job_name=name, **options)
    if engine == "ray":
        from datatrove.executor.ray import RayPipelineExecutor

        return RayPipelineExecutor(workers=count, **options)
    from datatrove.executor.local import LocalPipelineExecutor

    return LocalPipelineExecutor(workers=count, **options)


def launch(plan: Plan, engine: Engine, ranks: int, **options: Any) -> None:
    """Do all jobs, or with Slurm submit them. Done again, only what has no receipt is done.

    Raises PrimerError where tasks of a phase are not done after it: datatrove keeps why in its logs.
    """
    if engine == "ray":
        import ray

        cores = None if "RAY_ADDRESS" in os.environ else ranks  # a cluster that is there has its own
        ray.init(ignore_reinit_error=True, include_dashboard=False, num_cpus=cores)
    found = executors(plan, engine, ranks, **options)
    with at_work(plan):
        if engine == "slurm":
            found[-1].run()
            return
        for phase, executor in zip(PHASES, found, strict=True):
            executor.depends = None  # it is done; Ray's executor would wait without end for one that failed
            executor.run()
            _require_done(plan, phase)


def _require_done(plan: Plan, phase: Sequence[str]) -> None:
    for job in phase:
        left = [task for task in tasks(plan, job) if not is_done(plan, job, task)]
        if left:
            logs = plan.out / "work" / "logs" / phase[0]
            raise PrimerError(
                f"{job}: {len(left)} tasks were not done", str(logs), "read what is there; then the same"
            )
