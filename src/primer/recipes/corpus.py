"""A corpus from its inputs to its shards and its report: the one place where all of it is put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from primer.corpus.refine.kept import Corpus
from primer.corpus.refine.plan import Plan, make
from primer.corpus.refine.recipe import Recipe
from primer.corpus.refine.run import Outcome, run
from primer.data.prepare_corpus import Settings, prepare_corpus
from primer.data.shards import ShardDirectory
from primer.device import cores
from primer.errors import UsageError

SHARDS = "shards"

Progress = Callable[[str, int, int, int], None]
"""Called with a step, how much of it is done, of how much, and the pages so far."""


@dataclass(frozen=True)
class Made:
    """What came of it."""

    plan: Plan
    outcome: Outcome
    shards: ShardDirectory | None
    """None where the recipe wants none."""


def make_corpus(
    recipe: Recipe, inputs: Sequence[str | Path], out: Path, jobs: int, progress: Progress
) -> Made:
    """Refine the inputs by the recipe, and tokenise what was kept. What is done already is not done again.

    Raises UsageError for a folder that holds something else, DataError where there is nothing to read or nothing left.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "plan.json").is_file())):
        raise UsageError("something else is here", str(out), "another --out")

    def stage(name: str, done: int, total: int) -> None:
        progress(name, done, total, 0)

    plan = make(recipe, inputs, out, stage)
    outcome = run(plan, jobs or cores(), progress)
    shards = None
    if recipe.tokens.tokenizer != "none":
        tokens = recipe.tokens
        settings = Settings(tokens.tokenizer, tokens.vocabulary, tokens.validation_fraction)
        shards = prepare_corpus(Corpus.open(out), out / SHARDS, settings, threads=jobs, progress=stage)
    return Made(plan, outcome, shards)
