"""How a session ends: what it cost beside what was planned, and for whoever asked for an end, how to go on."""

from typing import Any

from primer import device as devices
from primer.errors import StoppedError
from primer.recipes.directory import RunDirectory
from primer.recipes.plan import outcome
from primer.training.distributed import World
from primer.training.loop import Trainer


def how_it_went(trainer: Trainer, planned: dict[str, Any]) -> dict[str, Any]:
    """The plan, and beside it the same figures as they were."""
    actual = outcome(
        planned,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        steps=trainer.progress.step,
        tokens=trainer.progress.tokens,
        seconds=trainer.progress.seconds,
        memory=devices.peak_memory(trainer.precision.device),
    )
    return {"planned": planned, "actual": actual}


def stopped(run: RunDirectory, world: World, when: str, number: int) -> StoppedError:
    """The error that says when a run was stopped, and what to type; one of several processes says it."""
    return StoppedError(
        when,
        where=str(run.path),
        hint=going_on(run, world),
        exit_code=128 + number,
        quiet=not world.is_first,
    )


def going_on(run: RunDirectory, world: World) -> str:
    """The command that goes on with a run, on as many processes."""
    command = f"primer resume {run.handle}"
    if world.size == 1:
        return command
    where = "" if world.size == world.local_size else "on every machine: "
    return f"{where}torchrun --nproc-per-node={world.local_size} -m {command}"


def in_words(processes: int) -> str:
    """1 process, 2 processes."""
    return f"{processes} process{'es' * (processes > 1)}"
