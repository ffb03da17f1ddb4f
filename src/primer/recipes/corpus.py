"""A corpus from its inputs to its shards and its report: the one place where all of it is put together."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from primer.assets import write_atomically, writing
from primer.corpus.refine.kept import Corpus, is_finished
from primer.corpus.refine.page import page
from primer.corpus.refine.plan import Plan, make
from primer.corpus.refine.recipe import Recipe
from primer.corpus.refine.report import report
from primer.corpus.refine.run import Outcome, run
from primer.data.documents import in_order
from primer.data.llmc import write_llmc
from primer.data.prepare_corpus import Settings, given_tokenizer, key_of, prepare_corpus
from primer.data.shards import ShardDirectory
from primer.device import cores
from primer.errors import DataError, UsageError
from primer.tokens import BPETokenizer

SHARDS, LLMC = "shards", "llm.c"

Progress = Callable[[str, int, int, int], None]
"""Called with a step, how much of it is done, of how much, and the pages so far."""


@dataclass(frozen=True)
class Made:
    """What came of it."""

    plan: Plan
    outcome: Outcome
    shards: ShardDirectory | None
    """None where the recipe wants none, or nothing is left."""
    report: dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """Who does the jobs: processes here, or one of datatrove's executors, with what its constructor is told."""

    name: Literal["processes", "local", "ray", "slurm"] = "processes"
    options: Mapping[str, Any] = field(default_factory=dict)


PROCESSES = Engine()


def make_corpus(
    recipe: Recipe,
    inputs: Sequence[str | Path],
    out: Path,
    jobs: int,
    progress: Progress,
    engine: Engine = PROCESSES,
) -> Made | None:
    """Refine the inputs by the recipe, and tokenise what was kept. What is done already is not done again.

    None where Slurm was given the jobs, and they have not ended. Raises UsageError for a folder that holds something
    else, DataError where there is nothing to read or nothing left.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "plan.json").is_file())):
        raise UsageError("something else is here", str(out), "another --out")

    def stage(name: str, done: int, total: int) -> None:
        progress(name, done, total, 0)

    tokens = recipe.tokens
    settings = Settings(tokens.tokenizer, tokens.vocabulary, tokens.validation_fraction)
    if tokens.tokenizer != "none":
        given_tokenizer(settings)  # what cannot be had is said before hours of work
    if jobs < 0:
        raise UsageError(
            f"{jobs} processes cannot do anything", hint="-j 2, or 0: as many as there are cores"
        )
    plan = make(recipe, inputs, out, stage)
    if engine.name != "processes" and not is_finished(plan):
        from primer.corpus.refine.engine import launch

        launch(plan, engine.name, jobs or cores(), **engine.options)
        if engine.name == "slurm":
            return None
    outcome = run(plan, jobs or cores(), progress)
    corpus = Corpus.open(out)
    if not corpus.size:
        found = write_report(out, count_tokens=False)
        raise DataError(
            f"no document was kept: {_most(found)}", str(out), f"{out / 'report.html'}, or --help for limits"
        )
    shards = _shards(corpus, settings, jobs, stage) if tokens.tokenizer != "none" else None
    if shards and tokens.llmc and not (out / LLMC).exists():
        write_llmc(shards, out / LLMC)
    progress("report", 0, 1, 0)
    return Made(plan, outcome, shards, write_report(out, count_tokens=tokens.count_dropped))


def _shards(
    corpus: Corpus, settings: Settings, jobs: int, stage: Callable[[str, int, int], None]
) -> ShardDirectory:
    """The corpus' shards. Those of another selection, which lie where these belong, are replaced."""
    place, other = corpus.plan.out / SHARDS, corpus.plan.out / LLMC
    if place.exists() and ShardDirectory.open(place, verify=False).key != key_of(corpus, settings):
        for each in (other, place):
            shutil.rmtree(each, ignore_errors=True)
    return prepare_corpus(corpus, place, settings, threads=jobs, progress=stage)


def _most(found: dict[str, Any]) -> str:
    """Which rules took the documents."""
    total = found["totals"]["in"]["documents"]
    if not total:
        return "nothing is in these files"
    reasons = [(each["documents"], each["reason"]) for stage in found["stages"] for each in stage["reasons"]]
    return ", ".join(
        f"{reason} took {count} of {total}" for count, reason in sorted(reasons, reverse=True)[:3]
    )


def write_report(out: Path, *, count_tokens: bool = True) -> dict[str, Any]:
    """report.html and report.json of a corpus, and what is in them. DataError for one that is not finished."""
    corpus = Corpus.open(out)
    shards = ShardDirectory.open(out / SHARDS, verify=False) if (out / SHARDS).is_dir() else None
    if shards and shards.source.get("fingerprint") != corpus.key:  # of another selection
        shards = None
    tokens, count = None, None
    if shards:
        counts: dict[str, int] = {split: counts["tokens"] for split, counts in shards.counts.items()}
        size = sum(counts["bytes"] for counts in shards.counts.values())
        about = f"{shards.tokenizer.name}, {shards.tokenizer.vocab_size:,} tokens"
        tokens = {"tokenizer": about, **counts, "bytes_per_token": size / sum(counts.values())}
        if count_tokens and isinstance(shards.tokenizer, BPETokenizer):
            count = partial(_count, shards.tokenizer)
    found = report(corpus, tokens, count)
    with writing(out):
        write_atomically(out / "report.json", json.dumps(found, ensure_ascii=False, indent=1))
        write_atomically(out / "report.html", page(found))
    return found


def _count(tokenizer: BPETokenizer, texts: Iterable[str]) -> int:
    """Tokens of texts, each with the one that marks its beginning, encoded on all cores."""
    return sum(in_order(lambda text: len(tokenizer.encode(text, special="text")) + 1, texts, cores()))
