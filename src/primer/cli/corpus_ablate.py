"""`primer corpus ablate`: what each part of a recipe is worth, by training on corpora that differ in it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from primer.cli.flags import Verb, parse, show_help
from primer.corpus.refine.recipe import Recipe, resolve
from primer.errors import StoppedError, UsageError


@dataclass(frozen=True)
class AblateOptions:
    """Of the command."""

    out: str = "ablation"
    """The folder where the corpora are made, and the runs."""
    arm: tuple[str, ...] = ()
    """A recipe to compare with, the flag once for each: "name: key=value key=value". Empty: each stage turned off."""
    held_out: str = ""
    """What the models are scored on: a text of another source. Empty: passages from novels, where they are."""
    seeds: int = 5
    """Trainings of each."""
    steps: int = 600
    """Of each training."""
    json: bool = False
    """Print one JSON object."""
    plot: str | None = None
    """Draw the differences into this file too: .png or .svg."""


ABLATE = Verb(
    "corpus ablate",
    "RECIPE INPUT…",
    "Refine the same crawl by recipes that differ in one thing each, train a small GPT on equally many tokens of each "
    "corpus with several seeds, and score them on a text of another source: as FineWeb chose its filters. Stopped at "
    "any time, the same command goes on.",
    (
        "primer corpus ablate fineweb-fast crawl.warc.gz",
        'primer corpus ablate fineweb-fast warcs/ --arm="trafilatura: extract.extractor=trafilatura" --seeds=8',
        'primer corpus ablate fineweb crawl.warc.gz --arm="as-the-paper-says: fineweb.max_char_dup=0.1"',
    ),
    AblateOptions,
    (Recipe,),
    most=1 << 20,
)


def ablate(argv: Sequence[str]) -> int:
    """Refine, train, compare, print."""
    arguments = parse(ABLATE, argv)
    if arguments.help:
        show_help(ABLATE, resolve(arguments.values[0] if arguments.values else "fineweb-fast").config)
        return 0
    if len(arguments.values) < 2:
        raise UsageError("primer corpus ablate needs a recipe and something to read", hint=ABLATE.examples[0])
    name, *inputs = arguments.values
    options = arguments.options

    from primer.cli.progress import reporter
    from primer.cli.why import in_tables
    from primer.experiments.carry_out import carry_out
    from primer.experiments.filters import ARMS, Ablation, parsed
    from primer.experiments.trial import trials

    if options.plot:
        from primer.cli.plots import require

        require(options.plot, "--plot")
    out = Path(options.out)
    ablation = Ablation(
        name, tuple(inputs), parsed(options.arm) or ARMS, arguments.flags, options.held_out, out / "corpora"
    )
    experiment = ablation.experiment({"train.steps": options.steps}, options.seeds)
    ablation.prepare(lambda text: print(text, file=sys.stderr))
    wanted = trials(experiment, experiment.variants, options.seeds, {})
    try:
        with reporter() as report:
            found = carry_out(experiment, wanted, runs_dir=out / "runs", reporter=report)
    except StoppedError as error:
        error.hint = shlex.join(["primer", "corpus", "ablate", *argv])
        raise
    print(json.dumps(found.to_dict(), ensure_ascii=False) if options.json else in_tables(found))
    if options.plot:
        from primer.cli.plots import save_findings

        print(f"drawn into {save_findings(found, options.plot)}", file=sys.stderr)
    return 0
