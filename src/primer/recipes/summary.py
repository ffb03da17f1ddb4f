"""All runs of a directory in a few figures each, read from their files alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primer.errors import PrimerError
from primer.lock import is_held
from primer.models.count import parameters
from primer.recipes.config import title
from primer.recipes.directory import RunDirectory, every


@dataclass(frozen=True)
class RunSummary:
    """A run in a line."""

    id: str
    path: Path
    recipe: str
    source: str
    """The text."""
    title: str
    """The recipe, or the text's name where the recipe is the usual one."""
    started: str
    """UTC, ISO 8601."""
    steps: int
    """That it was to take; none where it was imported."""
    step: int
    """That it has taken."""
    train_loss: float | None
    """Mean of the last twenty recorded steps."""
    val_loss: float | None
    """Lowest so far."""
    parameters: int
    status: str
    """training, finished, stopped, diverged, failed, imported, damaged, or killed (it never ended, nobody holds it)."""


def summaries(runs_dir: str | Path = "runs") -> list[RunSummary]:
    """Every run below `runs_dir`, oldest first; one that cannot be read is listed as damaged."""
    return [summarise(run) for run in every(Path(runs_dir))]


def summarise(run: RunDirectory) -> RunSummary:
    """The figures of one run."""
    try:
        config, facts = run.read_config(), run.read_facts()
    except PrimerError:
        return RunSummary(run.id, run.path, "?", "?", "?", "", 0, 0, None, None, 0, "damaged")
    rows = run.metrics.rows()
    losses = _numbers(rows, "loss")[-20:]
    status = str(facts.get("status", "?"))
    return RunSummary(
        id=run.id,
        path=run.path,
        recipe=config.recipe,
        source=config.data.source,
        title=title(config),
        started=str(facts.get("started", "")),
        steps=0 if run.is_imported else config.train.steps,
        step=max((int(row["step"]) for row in rows), default=0),
        train_loss=sum(losses) / len(losses) if losses else None,
        val_loss=min(_numbers(rows, "val_loss"), default=None),
        parameters=parameters(config.model),
        status="killed" if status == "training" and not is_held(run.path) else status,
    )


def _numbers(rows: Sequence[dict[str, Any]], key: str) -> list[float]:
    """The finite numbers under a key (a NaN is written as a word)."""
    return [float(row[key]) for row in rows if isinstance(row.get(key), int | float)]
