"""`primer eval`: score a run on its own text, on others, on tasks with right answers, or in the harness of others."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from primer.cli.flags import Verb, own_flags, parse, required, show_help
from primer.errors import UsageError

if TYPE_CHECKING:
    from primer.evals.tasks import Task
    from primer.recipes.loaded import Run


@dataclass(frozen=True)
class Options:
    """Of the command."""

    on: tuple[str, ...] = ()
    """Texts (a file, a folder, a named source), token shards and tasks, with commas. Left out: the run's own text's
    validation part."""
    limit: int | None = None
    """Only the first so many questions of a task."""
    shots: int = 0
    """Solved examples in front of each question, from the same file."""
    seed: int = 0
    """Draws the examples."""
    harness: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness, which fetches their data itself; needs the extra [eval]."""
    unknown: Literal["error", "skip"] = "error"
    """A character that the run has never seen: stop and name it, or drop it and say how many."""
    encoding: str | None = None
    """How a text's bytes become characters. Left out, here and below: as the run's own text was read."""
    encoding_errors: Literal["strict", "replace", "ignore"] | None = None
    """Bytes that are no text: stop and name the offset, put U+FFFD in their place, or drop them."""
    field: str | None = None
    """Where a .jsonl or .parquet file keeps its text: a key, a column."""
    target: str = ""
    """Of a run that translates, here and below: the file of the translations, line by line beside the one that --on
    names."""
    source_field: str = ""
    """Where a .jsonl or .tsv file, or a folder, keeps what is to be translated (`primer train` has it as
    --data.source-field). Left out: as the run's own text was read."""
    target_field: str = ""
    """Where it keeps the translations."""
    beam: int | None = None
    """Hypotheses that are followed at once. Left out: as the run's own [translate] says."""
    json: bool = False
    """Print one JSON object."""
    runs_dir: str = "runs"
    """Where runs are kept."""

    def __post_init__(self) -> None:
        if (self.limit is not None and self.limit < 1) or self.shots < 0 or self.seed < 0:
            raise UsageError("--limit must be at least 1, --shots and --seed 0", hint="--limit=100 --shots=0")
        if self.on and self.harness:
            raise UsageError("--on and --harness exclude each other", hint="one after the other")


TEXTS = ("limit", "shots", "seed", "harness", "unknown", "field")
"""Flags that say nothing of pairs."""
PAIRS = ("target", "source_field", "target_field", "beam")
"""Flags that say nothing of texts and tasks."""

VERB = Verb(
    name="eval",
    takes="RUN",
    about="Score a run: on a text by loss in nats a token, perplexity and bits per byte, on a task by how often the "
    "right answer is the likeliest. A run that translates is scored on pairs by BLEU, chrF and perplexity: its own "
    "text's validation part, --on=test, or others. Its weights are the mean of its newest checkpoints, those of others "
    "the best. Tasks are arc_challenge, arc_easy, copa, hellaswag, lambada_openai, openbook_qa, piqa, winograd_wsc, "
    "winogrande, and .jsonl files of questions. RUN is a path, the beginning of an id, or latest.",
    examples=(
        "primer eval latest",
        "primer eval 3fa9c1 --on=my.txt --json",
        "primer eval latest --on=hellaswag,lambada_openai --limit=500",
    ),
    options=Options,
    further="--on={}",
)


def run(argv: Sequence[str]) -> int:
    """Print the scores."""
    arguments = parse(VERB, argv)
    if arguments.help:
        show_help(VERB)
        return 0
    which = required(arguments, VERB, "a run")

    from primer.recipes.run import load

    options = arguments.options
    model = load(which, runs_dir=options.runs_dir)
    if model.config.kind == "translation":
        return on_pairs(model, options)
    if given := of_others(options, PAIRS):
        raise UsageError(f"{given} is for runs that translate", hint="leave it out")
    if options.harness:
        return in_harness(model, options)
    # All are looked up first: what is misspelt is told before anything is scored.
    wanted: list[tuple[str | None, Task | None]] = [(None, None)]
    if options.on:
        wanted = [(on, task(on, options)) for on in several(options.on)]
    if options.limit is not None and not any(found for _, found in wanted):
        raise UsageError("--limit counts the questions of a task, and none is named", hint="--on=hellaswag")
    results = [(on, scored(model, on, found, options)) for on, found in wanted]
    show(model, results, options)
    return 0


def several(words: Sequence[str]) -> list[str]:
    """What commas separate; a path with a comma in its name stays whole."""
    parts = []
    for word in words:
        parts += [word] if os.path.lexists(word) else [part.strip() for part in word.split(",")]
    return parts


def task(on: str, options: Options) -> Task | None:
    """The task that a word names; None for a text that is there."""
    from primer.evals.tasks import is_task, read_task
    from primer.recipes.scores import check_target

    if is_task(on):
        return read_task(on, limit=options.limit, shots=options.shots, seed=options.seed)
    check_target(on)
    return None


def scored(model: Run, on: str | None, found: Task | None, options: Options) -> Any:
    """A task's `TaskScore`, or what `Run.evaluate` says of a text."""
    from primer.cli.scores import Ticker

    if found is None:
        name = os.path.basename(on.rstrip("/")) if on else "validation"
        with Ticker(name, "tokens") as ticker, own_flags() if on else nullcontext():
            return model.evaluate(
                on,
                unknown=options.unknown,
                encoding=options.encoding,
                encoding_errors=options.encoding_errors,
                field=options.field,
                progress=ticker,
            )
    with Ticker(found.name) as ticker:
        return model.evaluate_task(found, unknown=options.unknown, progress=ticker)


def show(model: Run, results: Sequence[tuple[str | None, Any]], options: Options) -> None:
    """Texts and pairs as lines, tasks in one table; or one JSON object, with `scores` where several were asked for."""
    from primer.cli import scores

    own = f"the validation part of {model.config.data.source}"
    if options.json:
        found = [
            {"on": on or own, **(each if isinstance(each, dict) else scores.fields(each))}
            for on, each in results
        ]
        rest: dict[str, Any] = found[0] if len(found) == 1 else {"scores": found}
        print(json.dumps({"run": str(model.path), **rest}, ensure_ascii=False))
        return
    in_lines = scores.of_pairs if model.config.kind == "translation" else scores.of_text
    said = [in_lines(each, on or own) for on, each in results if isinstance(each, dict)]
    if tasks := [each for _, each in results if not isinstance(each, dict)]:
        said.append(scores.of_tasks(tasks, model.config.model.context_length))
    print("\n\n".join(said))


def of_others(options: Options, names: Sequence[str]) -> str:
    """The first of these flags that was given, as it is written; nothing where none was."""
    usual = Options()
    given = (name for name in names if getattr(options, name) != getattr(usual, name))
    return next((f"--{name.replace('_', '-')}" for name in given), "")


def on_pairs(model: Run, options: Options) -> int:
    """How well a run translates."""
    from primer.cli.scores import Ticker

    if given := of_others(options, TEXTS):
        raise UsageError(
            f"{given} is for texts and tasks, and this run translates",
            hint="primer eval RUN --on=test, or pairs",
        )
    results = []
    wanted: list[str | None] = [*several(options.on)] or [None]
    if options.target and len(wanted) > 1:
        raise UsageError("--target is the other side of one text", hint="one after the other")
    for on in wanted:
        with Ticker(on or "validation", "sentences") as ticker, own_flags():
            found = model.evaluate_pairs(
                on,
                options.target,
                encoding=options.encoding,
                encoding_errors=options.encoding_errors,
                source_field=options.source_field,
                target_field=options.target_field,
                beam=options.beam,
                progress=ticker,
            )
            results.append((on, found))
    show(model, results, options)
    return 0


def in_harness(model: Run, options: Options) -> int:
    """What lm-evaluation-harness finds."""
    from primer.cli.scores import of_harness

    found = model.evaluate_harness(
        several(options.harness), limit=options.limit, shots=options.shots or None, unknown=options.unknown
    )
    if options.json:
        print(json.dumps({"run": str(model.path), "harness": found}, ensure_ascii=False, default=str))
    else:
        print(of_harness(found))
    return 0
