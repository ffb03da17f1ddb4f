"""`primer sample`: let a trained model write, streaming to stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from primer.cli.flags import Verb, parse, required, show_help
from primer.cli.stdin import as_text, from_stdin
from primer.errors import DataError, UsageError
from primer.recipes.report import visible

if TYPE_CHECKING:
    from primer.recipes.loaded import Run


@dataclass(frozen=True)
class Options:
    """What is left out is as the run's own [sample] says."""

    tokens: int | None = None
    """How many tokens to write."""
    temperature: float | None = None
    """Logits are divided by this; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Only among the k likeliest. 0: all."""
    top_p: float | None = None
    """Only among the likeliest that together reach this probability (Holtzman et al. 2020)."""
    min_p: float = 0.0
    """Only tokens at least this share as likely as the likeliest one."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that were already written become less likely (Keskar et al. 2019)."""
    seed: int | None = None
    """The same seed writes the same text. Left out: another text each time."""
    stop: tuple[str, ...] = ()
    """Stop before this text; the flag may be given several times."""
    special: Literal["refuse", "allow", "text"] = "refuse"
    """Where the prompt spells a special token such as <|endoftext|>: refuse it, take it as the token, or as text."""
    n: int = 1
    """How many samples, written side by side in one batch."""
    cache: bool = True
    """Keep keys and values; --no-cache computes every position again for each token, the slow truth behind it."""
    interactive: bool = False
    """Ask for a prompt again and again, until Ctrl-D."""
    json: bool = False
    """Print one JSON object: the prompt and the samples, without it."""
    runs_dir: str = "runs"
    """Where runs are kept."""

    def __post_init__(self) -> None:
        if self.n < 1 or (self.tokens is not None and self.tokens < 1):
            raise UsageError("--n and --tokens must be at least 1", hint="--n=1 --tokens=300")
        if self.interactive and (self.json or self.n > 1):
            raise UsageError(
                "--interactive writes one sample at a time, as text", hint="leave out --json and --n"
            )


VERB = Verb(
    name="sample",
    takes="RUN [PROMPT]",
    about="Let a trained model go on from PROMPT, which may also come from a pipe. RUN is a path, the beginning "
    "of an id, or latest.",
    examples=(
        'primer sample latest "ROMEO:"',
        "primer sample latest --temperature=0.5 --tokens=1000 --seed=1",
        "echo 'To be' | primer sample 3fa9c1 --n=4 --json",
    ),
    options=Options,
    most=2,
)


def run(argv: Sequence[str]) -> int:
    """Write samples on stdout."""
    arguments = parse(VERB, argv)
    if arguments.help:
        show_help(VERB)
        return 0
    which = required(arguments, VERB, "a run")
    options = arguments.options
    given = arguments.values[1] if len(arguments.values) > 1 else None

    from primer.recipes.run import load

    model = load(which, runs_dir=options.runs_dir)
    if options.interactive:
        return converse(model, options, given)
    prompt = given if given not in (None, "-") else piped()
    try:
        write(model, options, prompt)
    except DataError as error:
        raise about_the_prompt(error, prompt) from error
    return 0


def write(model: Run, options: Options, prompt: str | None) -> None:
    """One sample as it comes; several, or JSON, when they are whole."""
    if options.n == 1 and not options.json:
        emit(prompt, model.stream(prompt, **wanted(options)))
        return
    texts = model.generate(prompt, n=options.n, **wanted(options))
    samples = [texts] if isinstance(texts, str) else texts
    if options.json:
        print(json.dumps({"run": str(model.path), "prompt": prompt, "samples": samples}, ensure_ascii=False))
        return
    for number, text in enumerate(samples, start=1):
        print(f"-- {number}\n{clean()((prompt or '') + text)}")


def about_the_prompt(error: DataError, prompt: str | None) -> DataError:
    """What is wrong with the prompt in the words of this command: elsewhere it would be a text to train on."""
    from primer.tokens import SpecialTokenError, UnknownCharacterError

    if prompt and isinstance(error, SpecialTokenError):
        return DataError(
            error.cause, "the prompt", "--special=allow (as the token), --special=text (as characters)"
        )

    if prompt and isinstance(error, UnknownCharacterError):
        return DataError(error.cause, "the prompt", "write it without that character")
    return error


def wanted(options: Options) -> dict[str, Any]:
    """The keywords of `Run.generate`."""
    names = (
        "tokens",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "seed",
        "stop",
        "special",
    )
    return {name: getattr(options, name) for name in names} | {"use_cache": options.cache}


def emit(prompt: str | None, pieces: Iterable[str]) -> None:
    """Print the prompt and what follows it as it comes, and end the line."""
    show = clean()
    before = prompt or ""  # printed with the first piece, so that a refused prompt prints nothing
    for piece in pieces:
        print(show(before + piece), end="", flush=True)
        before = ""
    print(show(before))


def clean() -> Callable[[str], str]:
    """For a terminal, make control characters visible; for a file or a pipe, change nothing."""
    return visible if sys.stdout.isatty() else str


def piped() -> str | None:
    """The prompt that came through a pipe or a file on stdin; None on a terminal or where nothing came."""
    content = from_stdin("a prompt on stdin (none: primer sample RUN < /dev/null)")
    return as_text(content, "the prompt").removesuffix("\n") or None if content else None  # which echo adds


def converse(model: Run, options: Options, prompt: str | None) -> int:
    """Prompt after prompt, each answered by a text of its own; Ctrl-C ends an answer, or the conversation."""
    with suppress(ImportError):
        import readline  # noqa: F401 — from here on `input` has a history, and arrows that work
    _ = model.model  # weights that are refused are an error at once, not a matter of prompts
    ask = "> " if sys.stdin.isatty() and sys.stdout.isatty() else ""
    while True:
        try:
            prompt = input(ask) if prompt is None else prompt
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stderr)
            return 0
        try:
            emit(prompt, model.stream(prompt or None, **wanted(options)))
        except DataError as error:  # a character that the model never saw: say so, and ask again
            print(about_the_prompt(error, prompt), file=sys.stderr)
        except KeyboardInterrupt:  # enough of this answer
            print()
        prompt = None
