"""`primer corpus`: from a raw crawl to clean, deduplicated, tokenised text, with every page that was dropped accounted
for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from primer.cli.flags import Verb, parse, show_help
from primer.cli.prepare import Line, duration, politely_stopped
from primer.corpus.refine.recipe import Recipe, resolve, shipped
from primer.errors import DataError, StoppedError, UsageError, nearest

if TYPE_CHECKING:
    from primer.recipes.corpus import Made


@dataclass(frozen=True)
class RunOptions:
    """Of the command."""

    out: str = "corpus"
    """The folder to make, or to go on with."""
    jobs: int = 0
    """Processes at once (-j). 0: as many as there are cores."""
    engine: Literal["processes", "local", "ray", "slurm"] = "processes"
    """processes: on this machine. local, ray, slurm: datatrove's executors (extra [cluster]), with --out in a folder
    that all machines see; the result is the same, byte for byte (Slurm: tried with a stand-in for sbatch)."""
    slurm_partition: str = ""
    """Of --engine=slurm, which submits jobs and returns; the same command afterwards makes shards and report."""
    slurm_time: str = "10:00:00"
    """The longest that a Slurm task may take."""
    strict: bool = False
    """End with 4 if anything of the input was damaged, after everything else was done."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class PlanOptions:
    """Of the command."""

    jobs: int = 0
    """Processes at once (-j). 0: as many as there are cores."""
    json: bool = False
    """Print one JSON object."""


@dataclass(frozen=True)
class NoOptions:
    """Of the word itself."""


RUN = Verb(
    "corpus run",
    "RECIPE INPUT…",
    "Refine a crawl: WARC, ARC, .jsonl, .parquet, .txt or .md files, packed or not, or folders of them. RECIPE is "
    f"{', '.join(shipped())}, or a .toml file. Every threshold is a flag. Killed or stopped, the same command goes on "
    "where it was; with another threshold, nothing is measured again.",
    (
        "primer corpus run fineweb-fast crawl.warc.gz --out=corpus",
        "primer corpus run fineweb warcs/ --out=corpus -j 8 --fineweb.max-char-dup=0.1",
        "primer corpus run plain texts.jsonl --out=corpus --records.field=content",
    ),
    RunOptions,
    (Recipe,),
    most=1 << 20,
)
PLAN = Verb(
    "corpus plan",
    "RECIPE INPUT…",
    "Which stages a recipe has, and what it will take: about a hundred pages are measured, nothing is written.",
    (
        "primer corpus plan fineweb-fast crawl.warc.gz",
        "primer corpus plan fineweb warcs/ -j 8",
        "primer corpus plan my-recipe.toml texts.jsonl --json",
    ),
    PlanOptions,
    (Recipe,),
    most=1 << 20,
)
VERBS = Verb(
    "corpus",
    "run|plan|report|inspect|explain|diff|classifier|ablate",
    "Make a corpus, look at what was dropped and why. Each of the words has a help of its own.",
    (RUN.examples[0], "primer corpus report corpus", "primer corpus explain page.html"),
    NoOptions,
)


def run(argv: Sequence[str]) -> int:
    """Run one of the verbs below `corpus`."""
    from primer.cli import corpus_ablate, corpus_classifier, corpus_look

    verbs: dict[str, Callable[[Sequence[str]], int]] = {
        "run": run_recipe,
        "plan": plan,
        "report": corpus_look.report,
        "inspect": corpus_look.inspect,
        "explain": corpus_look.explain,
        "diff": corpus_look.diff,
        "classifier": corpus_classifier.classifier,
        "ablate": corpus_ablate.ablate,
    }
    word, *rest = argv or [""]
    if word in verbs:
        return verbs[word](rest)
    if "-h" in argv or "--help" in argv:
        show_help(VERBS)
        return 0
    if not word:
        raise UsageError("primer corpus needs a verb", hint=f"one of {', '.join(verbs)}")
    close = nearest(word, list(verbs))
    raise UsageError(f"unknown verb {word!r}", "primer corpus", f"primer corpus {close or '--help'}")


def run_recipe(argv: Sequence[str]) -> int:
    """Refine, with progress on stderr, and print what was made."""
    arguments = parse(RUN, jobs_spelt_out(argv))
    if arguments.help:
        show_help(RUN, resolve(arguments.values[0] if arguments.values else "fineweb").config)
        return 0
    if len(arguments.values) < 2:
        raise UsageError("primer corpus run needs a recipe and something to read", hint=RUN.examples[0])
    name, *inputs = arguments.values
    options = arguments.options
    recipe = resolve(name, arguments.flags).config

    from primer.recipes.corpus import Engine, make_corpus

    progress = Progress()
    started = time.monotonic()
    try:
        with politely_stopped():
            slurm = {"partition": options.slurm_partition, "time": options.slurm_time}
            engine = Engine(options.engine, slurm if options.engine == "slurm" else {})
            made = make_corpus(recipe, inputs, Path(options.out), options.jobs, progress, engine)
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else 2
        raise StoppedError(
            "what was done is kept", options.out, "the same command, which goes on from there", 128 + number
        ) from error
    finally:
        progress.end()
    if made is None:
        print(
            f"submitted; when the jobs have ended, the same command makes shards and report in {options.out}"
        )
        return 0
    seconds = round(time.monotonic() - started, 1)
    found = summary(made, seconds)
    print(json.dumps(found, ensure_ascii=False) if options.json else in_lines(made, found))
    if options.strict and found["damaged"]:
        raise DataError(
            f"{found['damaged']} of {found['documents']:,} could not be read whole",
            options.out,
            f"primer corpus inspect {options.out} --stage=records, or --reason=crashed",
        )
    return 0


def summary(made: Made, seconds: float) -> dict[str, Any]:
    """What was made, as plain values."""
    totals = made.report["totals"]
    return {
        "path": str(made.plan.out),
        "recipe": made.plan.recipe.recipe,
        "documents": totals["in"]["documents"],
        "kept": totals["kept"]["documents"],
        "words": totals["kept"]["words"],
        "damaged": len(made.report["damage"]) + len(made.report["crashed"]),
        "measured": made.outcome.done["annotate"],
        "units": made.outcome.done["annotate"] + made.outcome.found["annotate"],
        "tokens": made.report["tokens"],
        "seconds": seconds,
    }


def in_lines(made: Made, found: dict[str, Any]) -> str:
    """The same for people."""
    from primer.cli.corpus_look import in_lines as stages

    out = found["path"]
    lines = {
        "kept": f"{found['kept']:,} of {found['documents']:,} documents, {found['words']:,} words, in {out}/kept",
        "took": f"{found['seconds']:.1f} s"
        + (
            f", {found['units'] - found['measured']} of {found['units']} units were measured before"
            if found["units"] > found["measured"]
            else ""
        ),
        "report": f"{out}/report.html",
    }
    if found["damaged"]:
        lines["damaged"] = (
            f"{found['damaged']} stretches or pages: primer corpus inspect {out} --stage=records, or --reason=crashed"
        )
    if found["tokens"]:
        tokens = found["tokens"]
        lines["tokens"] = (
            f"{tokens['train']:,} to train on, {tokens['validation']:,} to validate with, in {out}/shards"
        )
        lines["next"] = f"primer train tiny --data.source={out}/shards"
    return stages(made.report) + "\n\n" + "\n".join(f"{name:<9} {text}" for name, text in lines.items())


def plan(argv: Sequence[str]) -> int:
    """Print what a corpus will take."""
    arguments = parse(PLAN, jobs_spelt_out(argv))
    if arguments.help:
        show_help(PLAN, resolve(arguments.values[0] if arguments.values else "fineweb").config)
        return 0
    if len(arguments.values) < 2:
        raise UsageError("primer corpus plan needs a recipe and something to read", hint=PLAN.examples[0])
    name, *inputs = arguments.values
    recipe = resolve(name, arguments.flags).config

    from primer.corpus.refine.estimate import estimate
    from primer.device import cores

    processes = arguments.options.jobs or cores()
    found = estimate(recipe, inputs, processes)
    seconds = found.seconds(processes)
    if arguments.options.json:
        print(json.dumps({**asdict(found), "processes": processes, "seconds": seconds}))
        return 0
    lines = {
        "recipe": f"{recipe.recipe}, version {recipe.version}: {recipe.about}",
        "stages": ", ".join(found.stages),
        "input": f"{found.files:,} files, {found.bytes:,} bytes, in {found.units:,} units",
        "pages": f"about {found.pages:,}; {found.kept_of_sampled} of the first {found.sampled} would be kept, before "
        "duplicates go",
        "time": f"about {duration(seconds)} with {processes} processes, {1 / found.seconds_a_page:,.0f} pages/s each"
        if found.sampled
        else "nothing to measure",
        "disk": f"about {found.disk / 1e6:,.0f} MB",
        "memory": f"at most {found.memory / 1e6:,.0f} MB",
    }
    print("\n".join(f"{key:<8} {text}" for key, text in lines.items()))
    return 0


def jobs_spelt_out(argv: Sequence[str]) -> list[str]:
    """`-j 4` and `-j4` as `--jobs=4`, as make and its like have it."""
    words: list[str] = []
    rest = iter(argv)
    for word in rest:
        if word == "-j":
            words.append(f"--jobs={next(rest, '')}")
        elif word.startswith("-j") and word[2:].isdigit():
            words.append(f"--jobs={word[2:]}")
        else:
            words.append(word)
    return words


class Progress(Line):
    """Which job is under way, and how fast pages are measured."""

    def __init__(self) -> None:
        super().__init__()
        self.started = self.said

    def __call__(self, job: str, done: int, total: int, pages: int) -> None:
        now = time.monotonic()
        if self.is_due(now):
            rate = f", {pages:,} pages, {pages / (now - self.started):,.0f}/s" if pages else ""
            self.say(f"{job}: {done:,} of {total:,}{rate}")
