"""`primer why`: answers to questions by trainings that differ in one thing each, with several seeds and an interval."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from primer.cli.flags import Arguments, Verb, parse, show_help
from primer.cli.plan import about, footnote, megabytes
from primer.cli.table import table
from primer.errors import StoppedError, UsageError, nearest
from primer.experiments import QUESTIONS
from primer.experiments.calculation import Calculation
from primer.experiments.experiment import Experiment, Measure, Variant
from primer.experiments.trial import Trial, trials
from primer.experiments.verdict import Findings, Row
from primer.recipes.config import RunConfig, TranslationConfig


@dataclass(frozen=True)
class Options:
    """Of the command."""

    seeds: int = 0
    """Of each variant and of the base; one has no interval. 0: as many as the shipped evidence has, with --minutes as
    many as fit."""
    minutes: float = 0.0
    """Answer in so much time: fewer steps, so that a few seeds fit. 0: all steps, however long that takes."""
    full: bool = False
    """As the shipped evidence was made, whatever else is set: all steps, all seeds, all variants."""
    variants: str = ""
    """Only these, with commas between: names (h=4), what is varied (h), rows (A). Empty: all."""
    plan: bool = False
    """Print what would be trained, how large it is, and how long it would take here; train nothing. Of arithmetic:
    about how long that takes."""
    so_far: bool = False
    """Print what the runs say that are there by now; train nothing."""
    json: bool = False
    """Print JSON."""
    plot: str | None = None
    """Draw the differences into this file too: .png or .svg (needs the extra "plots")."""
    curves: str | None = None
    """Draw the validation loss over the steps, its mean and its interval, into this file: .png or .svg."""
    runs_dir: str = "runs"
    """Where runs are kept; those of a question go into why-QUESTION there."""

    def __post_init__(self) -> None:
        if self.seeds < 0 or not 0 <= self.minutes < float("inf"):
            raise UsageError("--seeds and --minutes must not be negative", hint="--seeds=3")
        if self.full and (self.minutes or self.seeds or self.variants):
            raise UsageError(
                "--full is all seeds and variants, in whatever time they need", hint="--full alone"
            )


VERB = Verb(
    name="why",
    takes="[QUESTION]",
    about="Answer a question by training: a base, and variants that differ from it in one thing each, all with the "
    "same seeds. The verdict on a variant is its mean difference to the base with a 95 % interval. Some questions are "
    "answered by arithmetic alone, in a minute. Without a word: the questions. Stopped at any time, the same command "
    "goes on. Dotted flags change the base, as in primer train.",
    examples=(
        "primer why",
        "primer why formats --minutes=5 --plot=formats.png",
        "primer why table-3 --variants=h,d_k --seeds=2 --train.steps=300",
    ),
    options=Options,
    configs=(RunConfig, TranslationConfig),
)


def run(argv: Sequence[str]) -> int:
    """List the questions, or answer one: progress on stderr, verdicts on stdout."""
    arguments = parse(VERB, argv)
    options = arguments.options
    if not arguments.values:
        if arguments.help:
            show_help(VERB)
            return 0
        if arguments.flags:
            raise UsageError("flags go with a question", "primer why", VERB.examples[2])
        print(questions(as_json=options.json))
        return 0
    asked_for = asked(arguments.values[0], arguments.flags)
    command = shlex.join(["primer", "why", *argv])
    if isinstance(asked_for, Calculation):
        return by_arithmetic(asked_for, arguments)
    return by_training(asked_for, arguments, command)


def by_training(experiment: Experiment, arguments: Arguments[Options], command: str) -> int:
    """Train what is missing of an experiment, and print what was found."""
    flags = {key: value for key, value in arguments.flags.items() if key not in experiment.asked}
    arguments = replace(arguments, flags=flags)
    options = arguments.options
    variants = experiment.chosen(options.variants)
    if experiment.prepare and not arguments.help:
        experiment.prepare(lambda text: print(text, file=sys.stderr))
    wanted = trials(experiment, variants, options.seeds or experiment.seeds, flags)
    if arguments.help:
        show_help(VERB, wanted[0].config)
        return 0
    for note in experiment.notes:
        print(note, file=sys.stderr)
    if options.plan:
        from primer.experiments.planned import planned

        plan = planned(experiment, wanted, options.runs_dir)
        print(json.dumps(plan, ensure_ascii=False) if options.json else as_planned(plan))
        return 0
    require_plots(options)
    found = answer(experiment, wanted, variants, arguments, command)
    print(json.dumps(found.to_dict(), ensure_ascii=False) if options.json else in_tables(found))
    if options.plot:
        from primer.cli.plots import save_findings

        print(f"drawn into {save_findings(found, options.plot)}", file=sys.stderr)
    if options.curves:
        from primer.cli.plots import save_progress

        print(f"drawn into {save_progress(found, options.curves)}", file=sys.stderr)
    return 0


def require_plots(options: Options) -> None:
    """Whether pictures can be drawn: rather said now than in some hours."""
    for flag, file in (("--plot", options.plot), ("--curves", options.curves)):
        if file:
            from primer.cli.plots import require

            require(file, flag)


def by_arithmetic(calculation: Calculation, arguments: Arguments[Options]) -> int:
    """Compute, and print what was found."""
    from primer.cli.calculated import in_columns, plan_in_words
    from primer.experiments.calculation import calculate, only, planned

    options = arguments.options
    if arguments.help:
        show_help(VERB)
        return 0
    refuse_training(calculation, options, arguments.flags)
    wanted = calculation.chosen(options.variants)
    seeds = options.seeds or calculation.seeds
    if options.plan:
        plan = planned(calculation, seeds, options.minutes)
        print(json.dumps(plan, ensure_ascii=False) if options.json else plan_in_words(plan))
        return 0
    require_plots(options)
    with telling() as tell:
        found = calculate(calculation, seeds, minutes=options.minutes, tell=tell)
    found = only(found, wanted)
    print(json.dumps(found.to_dict(), ensure_ascii=False) if options.json else in_columns(found))
    if options.plot:
        from primer.cli.plots import save_calculated

        print(f"drawn into {save_calculated(found, options.plot)}", file=sys.stderr)
    return 0


def refuse_training(calculation: Calculation, options: Options, flags: Mapping[str, Any]) -> None:
    """UsageError for flags that speak of training; the hint is the command without them."""
    keep = {"seeds", "minutes", "full", "variants", "plan", "json", "plot"}
    given = {key: value for key, value in vars(options).items() if value != getattr(Options(), key)}
    kept = [
        f"--{key}" if value is True else f"--{key}={value}" for key, value in given.items() if key in keep
    ]
    hint = shlex.join(["primer", "why", calculation.name, *kept])
    if options.so_far:
        raise UsageError(
            f"{calculation.name} is answered by arithmetic: nothing is kept of it", "--so-far", hint
        )
    if wrong := ["--curves"] * bool(options.curves) + [f"--{key.replace('_', '-')}" for key in flags]:
        raise UsageError(
            f"{calculation.name} is answered by arithmetic: there is nothing to train", wrong[0], hint
        )


@contextmanager
def telling() -> Iterator[Callable[[str, int, int], None]]:
    """Who says on stderr how far a calculation is."""
    from primer.cli.progress import reporter

    with reporter() as report:
        yield lambda what, done, total: report.on_part(what, done, total)


def questions(*, as_json: bool) -> str:
    """Every question, a line each."""
    if as_json:
        return json.dumps({name: question.text for name, question in QUESTIONS.items()}, ensure_ascii=False)
    rows = [("question", "what it asks"), *((name, question.text) for name, question in QUESTIONS.items())]
    return (
        table(rows, cut=1)
        + "\n\nits cost, before anything is trained or computed: primer why QUESTION --plan"
    )


def asked(name: str, flags: dict[str, Any]) -> Experiment | Calculation:
    """What answers a question. UsageError for one that there is not."""
    if name not in QUESTIONS:
        close = nearest(name, list(QUESTIONS))
        raise UsageError(
            f"no question is called {name!r}", hint=f"primer why {close}" if close else "primer why"
        )
    return QUESTIONS[name].experiment(flags)


def answer(
    experiment: Experiment,
    wanted: Sequence[Trial],
    variants: Sequence[Variant],
    arguments: Arguments[Options],
    command: str,
) -> Findings:
    """Train what is missing and say what was found; whoever stops that is told how to go on."""
    from primer.cli.progress import reporter
    from primer.experiments.budget import within
    from primer.experiments.carry_out import carry_out
    from primer.training.distributed import place

    options = arguments.options
    if place().size > 1:
        raise UsageError("an experiment trains in one process", "torchrun", command)
    try:
        with reporter() as report:
            if options.minutes and not options.so_far:
                return within(
                    experiment,
                    variants,
                    arguments.flags,
                    options.minutes,
                    seeds=options.seeds,
                    runs_dir=options.runs_dir,
                    reporter=report,
                )
            return carry_out(
                experiment, wanted, runs_dir=options.runs_dir, reporter=report, only_look=options.so_far
            )
    except StoppedError as error:
        error.hint = command
        raise


def as_planned(plan: dict[str, Any]) -> str:
    """A plan for people."""
    rows = [("", "variant", "changes", "parameters", "a run", "runs", "there")]
    for row in plan["variants"]:
        changes = ", ".join(f"{key}={value}" for key, value in row["flags"].items())
        sizes = (f"{row['parameters']:,}", about(row["seconds_a_run"]), str(row["runs"]), str(row["there"]))
        rows.append((place(row["row"]), row["name"], changes, *sizes))
    runs, there = (sum(row[key] for row in plan["variants"]) for key in ("runs", "there"))
    return (
        f"{plan['question']}\n{plan['steps']:,} steps a run on {plan['source']}\n\n"
        f"{table(rows, right={3, 4, 5, 6}, cut=2)}\n\n"
        f"{runs - there} of {runs} runs are to be trained: about {about(plan['seconds_left'])}; "
        f"all take {megabytes(plan['bytes'])} of disk at most\n{footnote(plan)}"
    )


def in_tables(found: Findings) -> str:
    """What was found for people: a table a measure, our rows beside those of others where there are any."""
    parts = [found.experiment.question]
    for measure in found.experiment.measures:
        parts += [f"{measure.name}: {measure.about}", of_measure(found, measure)]
    seen = [f"As it was carried out in full: {found.experiment.seen}"] if found.experiment.seen else []
    return "\n\n".join([*parts, notes(found), *seen])


def of_measure(found: Findings, measure: Measure) -> str:
    """The table of one measure."""
    beside = any(measure.name in row.variant.published for row in found.rows)
    theirs = ("theirs: parameters", measure.name, "difference", "side") if beside else ()
    rows = [("", "variant", "parameters", measure.name, "against the base", *theirs)]
    for row in (found.base, *found.rows):
        value, verdict = row.mean(measure), found.verdict(row, measure) if row is not found.base else ""
        ours = (f"{row.parameters:,}", "" if value is None else f"{value:.{measure.digits}f}", verdict)
        rows.append(
            (
                place(row.variant.row),
                row.variant.name,
                *ours,
                *(published(found, row, measure) if beside else ()),
            )
        )
    return table(rows, right={2, 3, 5, 6, 7})


def place(row: str) -> str:
    """(A), for a row that has a place in a table."""
    return f"({row})" if row else ""


def published(found: Findings, row: Row, measure: Measure) -> tuple[str, str, str, str]:
    """The figures of others, and whether ours lies on the same side of the base."""
    figures, is_base = row.variant.published, row is found.base
    size, value = figures.get("parameters"), figures.get(measure.name)
    difference = None if is_base else found.published(row, measure)
    side = "" if is_base else {True: "same", False: "opposite", None: "–"}[found.agrees(row, measure)]
    return (
        "" if size is None else f"{size / 1e6:,.0f} M",
        "" if value is None else f"{value:.{measure.digits}f}",
        "" if difference is None else f"{difference:+.{measure.finer}f}",
        side,
    )


def notes(found: Findings) -> str:
    """What is to be known about the tables."""
    seeds, rows = len(found.seeds), len(found.rows)
    lines = []
    if seeds > 1:
        lines.append(
            "(…): between these with 95 % confidence, by Student's t over the pairs of runs that share a seed.\n"
            f"By chance alone one row in twenty is called different; there are {rows} in a table."
        )
    else:
        lines.append("One seed has no interval: --seeds=3 tells chance from effect.")
    if len(found.computed) > 1:
        lines.append(
            f"Trained in different ways: {', '.join(found.computed)}. Pairs may differ by that as well."
        )
    if found.experiment.published_by:
        lines.append(
            f"theirs: {found.experiment.published_by}. side: whether our interval lies on their side of the base;\n"
            "– where it has both sides in it, or theirs has none."
        )
    return "\n".join(lines)
