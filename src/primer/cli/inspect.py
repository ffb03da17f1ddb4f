"""`primer inspect`: what a run's model does inside, step by step. `flash`: its attention, a tile at a time."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from primer.cli.flags import Verb, parse, required, show_help
from primer.cli.runs import colour, unicode
from primer.cli.table import shortened, table
from primer.errors import DataError, UsageError

if TYPE_CHECKING:
    from primer.lens.flash import Head, Step, Walk
    from primer.recipes.loaded import Run
    from primer.tokens.tokenizer import Ids

SIDE = 4
"""Tiles on each side of the table of scores, where no size of tiles was asked for."""
MOST_ROWS = 16
"""Of a picture, which every tile repeats; of a taller one only the row that is worked on."""
LONGEST = 24
"""Characters of a text beside the picture."""


@dataclass(frozen=True)
class Options:
    """Of the command."""

    layer: int = 0
    """Which layer, counted from 0."""
    head: int = 0
    """Which of its heads, counted from 0."""
    tile: int = 0
    """Queries and keys of a tile. 0: a quarter of the text."""
    block_q: int = 0
    """Queries of a tile, where they are not as many as --tile says."""
    block_k: int = 0
    """Keys of a tile, where they are not as many as --tile says."""
    row: int | None = None
    """Follow this query, counted from 0, through the tiles of its block, and print no others. Unset: all tiles, with
    the last query of each."""
    prompt: str | None = None
    """What the model reads. Unset: the beginning of the run's own validation text."""
    tokens: int = 64
    """How many tokens of the validation text; at most the model's context."""
    step: bool = False
    """Wait for Enter after every tile, on a terminal."""
    json: bool = False
    """Print a JSON object: what every tile did, and what came of it."""
    runs_dir: str = "runs"
    """Where runs are kept."""

    def __post_init__(self) -> None:
        if min(self.tile, self.block_q, self.block_k) < 0 or self.tokens < 1:
            raise UsageError(
                "a tile has one query and one key or more, a text one token or more",
                hint="--tile=8 --tokens=64",
            )
        if self.step and self.json:
            raise UsageError("--step is for people, --json for programs", hint="leave one of them out")

    def blocks(self, T: int) -> tuple[int, int]:
        """Queries and keys of a tile, of a text of T tokens."""
        tile = self.tile or -(-T // SIDE)
        return self.block_q or tile, self.block_k or tile


EXAMPLES = (
    "primer inspect flash latest",
    'primer inspect flash latest --layer=2 --head=1 --prompt="To be, or not to be" --tile=4',
    "primer inspect flash 3fa9c1 --tokens=256 --tile=32 --row=255 --step",
)
ABOUT_FLASH = (
    "Flash attention (Dao et al. 2022) on the queries, keys and values of one head, while a run's model reads: which "
    "tiles of the table of scores are computed and which are skipped, a query's running maximum and sum, the factor "
    "that puts right what was summed before, and the bytes that are moved. RUN is a path, the beginning of an id, or "
    "latest."
)
INSPECT = Verb("inspect", "flash", "Look into a model while it reads. " + ABOUT_FLASH, EXAMPLES, Options)
FLASH = Verb("inspect flash", "RUN", ABOUT_FLASH, EXAMPLES, Options)


def run(argv: Sequence[str]) -> int:
    """Run the verb below `inspect`."""
    if not argv or argv[0].startswith("-"):
        if "-h" in argv or "--help" in argv:
            show_help(INSPECT)
            return 0
        raise UsageError("primer inspect needs a word: what is looked at", hint=EXAMPLES[0])
    word, *rest = argv
    if word != "flash":
        raise UsageError(f"unknown verb {word!r}", "primer inspect", EXAMPLES[0])
    return flash(rest)


def flash(argv: Sequence[str]) -> int:
    """Attention, a tile at a time."""
    arguments = parse(FLASH, argv)
    if arguments.help:
        show_help(FLASH)
        return 0
    which = required(arguments, FLASH, "a run")
    options = arguments.options

    from primer.lens.flash import walk
    from primer.recipes.run import load

    opened = load(which, runs_dir=options.runs_dir)
    require_layer(opened, options.layer)
    ids = read(opened, options)
    T = len(ids)
    if options.row is not None and not 0 <= options.row < T:
        raise UsageError(f"the text has the tokens 0 to {T - 1}", f"--row={options.row}", f"--row={T - 1}")
    head = heard(opened, ids, options)
    block_q, block_k = options.blocks(T)
    found = walk(head, block_q=block_q, block_k=block_k, row=options.row)
    if options.json:
        place = {"run": str(opened.path), "layer": options.layer, "head": options.head}
        told = place | {"tokens": ids.tolist(), "block_q": block_q, "block_k": block_k} | asdict(found)
        print(json.dumps(told, ensure_ascii=False))
        return 0
    print(f"layer {options.layer}, head {options.head} of {opened.path.name}")
    print(f"{T} queries and {T} keys of {head.q.shape[3]} numbers, in tiles of {block_q} by {block_k}:")
    print(legend(), end="\n\n")
    show(found, lambda start, stop: piece(opened, ids[start:stop]), options)
    print(conclusion(found))
    return 0


def require_layer(opened: Run, layer: int) -> None:
    """Whether a run has such a layer. UsageError, too, for a run that is no language model."""
    from primer.recipes.config import TranslationConfig

    if isinstance(opened.config, TranslationConfig):
        raise UsageError(
            f"{opened.path.name} translates; this looks into models that go on with a text",
            "primer inspect flash",
            "a run of primer train shakespeare",
        )
    n = opened.config.model.n_layers
    if not 0 <= layer < n:
        raise UsageError(f"this run has the layers 0 to {n - 1}", f"--layer={layer}", f"--layer={n - 1}")


def read(opened: Run, options: Options) -> Ids:
    """The tokens that the model reads. DataError for a prompt that it cannot, and where the run's text is gone."""
    from primer.recipes.config import as_language
    from primer.recipes.scores import validation_ids
    from primer.recipes.text import open_data
    from primer.tokens import UnknownCharacterError
    from primer.training.distributed import World

    config = as_language(opened.config)
    context = config.model.context_length
    if options.prompt is None:
        try:
            shards = open_data(config, opened.directory, World())
        except DataError as error:
            error.hint = '--prompt="a text of your own"'
            raise
        wanted = min(options.tokens, context)
        return validation_ids(shards, wanted)[:wanted]
    try:
        ids = opened.tokenizer.encode(options.prompt, special="text")
    except UnknownCharacterError as error:
        raise DataError(error.cause, "--prompt", "write it without that character") from None
    if not 0 < len(ids) <= context:
        raise DataError(
            f"the prompt has {len(ids):,} tokens, and the model reads 1 to {context:,}",
            "--prompt",
            "a shorter one" if len(ids) else "a word or two",
        )
    return ids


def heard(opened: Run, ids: Ids, options: Options) -> Head:
    """Let the model read, and hear the head."""
    import torch

    from primer.lens.flash import head_of

    tokens = torch.tensor(ids.tolist(), device=next(opened.gpt.parameters()).device)[None]
    return head_of(opened.gpt, tokens, f"layers.{options.layer}", options.head)


def show(found: Walk, text: Callable[[int, int], str], options: Options) -> None:
    """Print the tiles that are computed, one after the other. text: what the tokens from one to another say."""
    computed = [step for step in found.steps if step.kind != "skipped"]
    for number, step in enumerate(computed, start=1):
        if options.row is not None and options.row not in range(*step.queries):
            continue
        (q_start, q_stop), (k_start, k_stop) = step.queries, step.keys
        print(
            f"tile {number} of {len(computed)}, {step.kind}: queries {q_start}–{q_stop - 1} "
            f"{text(q_start, q_stop)}, keys {k_start}–{k_stop - 1} {text(k_start, k_stop)}"
        )
        figures = figures_of(step, text(step.row, step.row + 1), found.naive)
        drawn = picture(found.steps, step)
        margin = " " * (2 * len(drawn[0]) - 1)
        for cells, line in zip_longest(drawn, table(figures, right={1, 2}).splitlines(), fillvalue=""):
            print(f"  {painted(cells) or margin}   {line}".rstrip())
        print()
        if options.step and number < len(computed):
            wait()


def figures_of(step: Step, text: str, naive: int) -> list[tuple[str, str, str]]:
    """What a tile did for the query that is followed."""
    return [
        (f"query {step.row} {text}", "before", "after"),
        ("m, its largest score", number(step.max_before), number(step.max_after)),
        ("l, its sum of exp(score − m)", number(step.sum_before), number(step.sum_after)),
        ("α = exp(m before − m after)", "", number(step.rescale)),
        (f"bytes moved (equation 1: {naive:,})", "", f"{step.moved:,}"),
    ]


def number(x: float | None) -> str:
    """Five digits, as wide as most; −∞ for the largest of no numbers."""
    return f"{'−∞' if x is None else f'{x:.5g}':>9}"


def marks() -> Mapping[str, str]:
    """What stands for a tile in the picture."""
    names = ("full", "masked", "now", "later", "skipped")
    return dict(zip(names, "■◪▣□·" if unicode() else "#/@o.", strict=True))


def legend() -> str:
    """What the marks mean."""
    words = {
        "full": "done",
        "masked": "done, with a mask",
        "now": "at work",
        "later": "to come",
        "skipped": "skipped",
    }
    return "   ".join(f"{mark} {words[name]}" for name, mark in marks().items())


def picture(steps: Sequence[Step], now: Step) -> list[list[str]]:
    """The table of scores, a name of `marks` a tile; a tall one is its row that is worked on."""
    done, lines = True, dict[tuple[int, int], list[str]]()
    for step in steps:
        done = done and step is not now
        name = "now" if step is now else step.kind if done or step.kind == "skipped" else "later"
        lines.setdefault(step.queries, []).append(name)
    return list(lines.values()) if len(lines) <= MOST_ROWS else [lines[now.queries]]


def painted(cells: Sequence[str]) -> str:
    """A row of the picture; on a terminal what is at work stands out."""
    shown = marks()
    if colour():
        shown = {**shown, "now": f"\x1b[1;33m{shown['now']}\x1b[0m"}
    return " ".join(shown[name] for name in cells)


def conclusion(found: Walk) -> str:
    """What came of it."""
    kinds = ", ".join(f"{found.count(kind)} {kind}" for kind in ("full", "masked", "skipped"))
    times = found.naive / found.moved
    return (
        f"{len(found.steps)} tiles: {kinds}\n"
        f"the output is equation 1's to within {found.error:.1g}, and the layer's own to within "
        f"{found.model_error:.1g}\n"
        f"bytes moved: {found.moved:,}; by equation 1, which writes the whole table down, {found.naive:,} "
        f"({times:.2g} times as many)"
    )


def piece(opened: Run, ids: Ids) -> str:
    """A text in quotation marks, or its beginning."""
    return shortened(json.dumps(opened.tokenizer.decode(ids), ensure_ascii=False), LONGEST)


def wait() -> None:
    """Until Enter is pressed; not at all where nobody is there to press it."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        print("Enter: the next tile", end="", file=sys.stderr, flush=True)
        sys.stdin.readline()
