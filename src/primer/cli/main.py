"""The command `primer`: finds the verb, and turns what goes wrong into three lines and an exit code.

Only the verb that was asked for is imported, so that `primer --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from primer.errors import SurroundingsError

OTHERS_WAIT = 3.0
"""Seconds, after which what only one of several processes has found wrong is told by that one."""

VERBS = (
    "prepare",
    "train",
    "resume",
    "tokenizer",
    "corpus",
    "sample",
    "translate",
    "eval",
    "import",
    "export",
    "runs",
    "plan",
    "why",
    "inspect",
    "float",
    "bench",
    "doctor",
)

HELP = """\
primer: GPT from scratch, to read, to train and to use

usage: primer VERB …            (primer VERB --help says more)

train
  corpus run RECIPE CRAWL…        a raw crawl to clean, deduplicated shards, and a report of what was dropped and why
  prepare TEXT… --out DIR         texts of any size to token shards, on all cores
  train [RECIPE|TEXT|FILE.toml]   train a GPT; without a word, on text that Python carries
  resume RUN                      go on where a run stopped, as if it never had
  tokenizer train|encode|…        learn a byte-level BPE vocabulary, use it, look at what it does
use
  sample RUN [PROMPT]             let a trained model write
  translate RUN [SENTENCE]        what a model that was trained on pairs makes of a sentence, or of a file of them
  eval RUN                        loss on a text; BLEU of translations; how often the right answer is the likeliest
exchange
  import FOLDER|NAME              make a run of a GPT-2 from Hugging Face: sample, score, train on from it
  export RUN                      write a run as files that other programs read
look
  runs list|show|compare|rm       what was trained here, with its curves
  plan [RECIPE]                   parameters, memory and minutes, before anything is trained
  why [QUESTION]                  what a choice is worth: trainings that differ in it, several seeds, an interval
  inspect flash RUN               flash attention, a tile at a time, on a run's own queries and keys
  float [NUMBER]                  a number bit by bit, in every format; a run's numbers, and what a format makes of them
  bench attention                 every implementation's time, rate, memory and error, beside what this machine allows
  doctor                          is this machine ready, how fast is it, does it compute rightly

RUN is a path, the beginning of an id, or latest.
Also: --version, and --debug with any verb for the traceback of an error.

examples:
  primer train                         three minutes on two cores, nothing to download
  primer train my.txt --train.steps=500
  primer sample latest "Once upon a time"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code (the codes are in the conventions)."""
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character is no reason to stop
    end = words.index("--") if "--" in words else len(words)
    debug = "--debug" in words[:end]
    words = [word for word in words[:end] if word != "--debug"] + words[end:]
    try:
        code = dispatch(words)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has seen enough: `primer runs list | head -1`
        _silence_stdout()
        return 0
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        if isinstance(error, OSError):
            _silence_stdout()  # it may be stdout itself that is full
        if debug:
            import traceback

            traceback.print_exc()
        return explain(error, debug=debug)


def dispatch(words: list[str]) -> int:
    """Import the verb's module and run it."""
    if not words or words[0] in ("-h", "--help", "help"):
        if words[1:2] and words[1] in VERBS:  # `primer help train`
            return dispatch([words[1], "--help"])
        print(HELP, end="")
        return 0
    if words[0] in ("--version", "-V", "version"):
        from primer import __version__

        print(f"primer {__version__}")
        return 0
    verb, *rest = words
    if verb not in VERBS:
        raise unknown_verb(verb)
    # OpenMP reads this when torch is loaded. By default its threads spin while they wait for each other, which on a
    # machine that does anything else makes a training step five times as slow; sleeping costs next to nothing.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from importlib import import_module
    from keyword import iskeyword

    module = f"{verb}_" if iskeyword(verb) else verb  # Python keeps `import` for itself
    code: int = import_module(f"primer.cli.{module}").run(rest)
    return code


def unknown_verb(word: str) -> Exception:
    """The error for a first word that is no verb: the nearest verb, or `train` for what is a text or a recipe."""
    from primer.errors import UsageError, nearest

    if word.startswith("-"):
        return UsageError(f"unknown flag {word}", hint="primer --help")
    close = nearest(word, list(VERBS))
    if close is None and os.path.exists(word):
        return UsageError(f"{word!r} is a file, not a verb", hint=f"primer train {word}")
    return UsageError(f"unknown verb {word!r}", hint=f"primer {close}" if close else "primer --help")


def explain(error: BaseException, *, debug: bool) -> int:
    """Say what went wrong on stderr (cause, where, one thing to try) and return the exit code."""
    from primer.errors import PrimerError, StoppedError, UsageError

    if isinstance(error, KeyboardInterrupt):
        number = int(error.args[0]) if error.args else 2  # a second signal says which one it was
        _say([("stopped", "by Ctrl-C" if number == 2 else f"by signal {number}")])
        return 128 + number
    known = error if isinstance(error, PrimerError) else surroundings(error)
    if known is None:
        hint = [] if debug else [("try", "the same command with --debug, to see where")]
        _say([("error", f"{type(error).__name__}: {_first_line(error)}"), *hint])
        return 1
    if isinstance(known, StoppedError) and known.quiet:
        return known.exit_code
    if isinstance(known, UsageError) and os.environ.get("LOCAL_RANK", "0") not in ("", "0"):
        # torchrun gives all processes the same words. It ends the others when the first one has answered and ended.
        time.sleep(OTHERS_WAIT)
    label = "stopped" if isinstance(known, StoppedError) else "error"
    lines = [(label, known.cause), ("where", known.where), ("try", known.hint)]
    _say([(name, text) for name, text in lines if text])
    return known.exit_code


def surroundings(error: BaseException) -> SurroundingsError | None:
    """What the system refuses (space, permission, memory) as one of our errors; None for anything else."""
    from primer.errors import SurroundingsError, refusal

    if isinstance(error, OSError) and (refused := refusal(error)):
        cause, hint = refused
        return SurroundingsError(cause, str(error.filename) if error.filename else None, hint)
    text = str(error)
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return SurroundingsError(
            "out of memory", hint="--train.micro-batch=1, or a smaller --train.batch-size"
        )
    return None


def _first_line(error: BaseException) -> str:
    line = next(iter(str(error).splitlines()), "") or "no message"
    return line if len(line) <= 200 else f"{line[:199]}…"


def _say(lines: Sequence[tuple[str, str]]) -> None:
    bold = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    for name, text in lines:
        label = f"{name + ':':<7}"
        with suppress(OSError):  # the terminal may be gone; the exit code still says it
            print(f"\x1b[1m{label}\x1b[0m {text}" if bold else f"{label} {text}", file=sys.stderr)


def _silence_stdout() -> None:
    """Python flushes stdout once more when it ends; give what cannot be written somewhere to go."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
