"""Flags from frozen dataclasses: read by one short rule, shown by tyro.

Every field is a flag under its dotted key, with hyphens or underscores: `--train.steps=300` or `--train.steps
300`; `--json` and `--no-json` for truth values; lists as `--optim.betas=0.9,0.95`, `--optim.betas 0.9 0.95`
or the flag again. Reading needs neither tyro nor torch, so that a mistake is answered at once, in the same
words as a mistake in a recipe; and it knows which flags were given, so that `--print-config` can say so.
"""

from __future__ import annotations

import io
import os
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

from primer.config import fit, from_dict, in_words, leaves, meant
from primer.errors import PrimerError, UsageError

O = TypeVar("O")  # noqa: E741  # the options of a verb


LABELS = ("recipe", "about", "kind")
"""What a config says about itself. These are no flags: `--recipe=lecture` would change the label and nothing else."""


@dataclass(frozen=True)
class Verb(Generic[O]):
    """One verb of the command line: how it is called, and what its help says."""

    name: str
    takes: str
    """Its arguments, as the usage line shows them."""
    about: str
    examples: tuple[str, str, str]
    options: type[O]
    configs: tuple[type, ...] = ()
    """Configs whose fields are dotted flags too; which of them a run has is known when its recipe is."""
    most: int = 1
    """How many arguments it takes at most."""
    further: str = ""
    """The flag that one argument too many was probably meant for."""


@dataclass(frozen=True)
class Arguments(Generic[O]):
    """What a person typed, read."""

    values: list[str]
    options: O
    flags: dict[str, Any] = field(default_factory=dict)
    """Of the config: only those that were given, by dotted key."""
    help: bool = False


def parse(verb: Verb[O], argv: Sequence[str]) -> Arguments[O]:
    """Read the words after the verb. UsageError for an unknown flag (with the nearest) or a wrong value."""
    if _asks_for_help(argv):
        try:
            rest = [word for word in argv if word not in ("-h", "--help")]
            return Arguments(_read(verb, rest)[0], verb.options(), help=True)
        except UsageError:  # whoever asks for help may be in the middle of a mistake
            return Arguments([], verb.options(), help=True)
    values, given = _read(verb, argv)
    if len(values) > verb.most:
        raise UsageError(
            f"one argument too many: {values[verb.most]!r}",
            f"primer {verb.name}",
            verb.further.format(values[verb.most])
            if verb.further
            else f"primer {verb.name} {verb.takes}".strip(),
        )
    own = {key: value for key, value in given.items() if key in leaves(verb.options)}
    flags = {key: value for key, value in given.items() if key not in own}
    return Arguments(values, from_dict(verb.options, own), flags)


def required(arguments: Arguments[Any], verb: Verb[Any], what: str) -> str:
    """The first argument of a verb that cannot do without."""
    if not arguments.values:
        raise UsageError(f"primer {verb.name} needs {what}", hint=verb.examples[0])
    return arguments.values[0]


@contextmanager
def own_flags() -> Iterator[None]:
    """Errors were written for training; a verb that reads texts calls the same flags `--field`, not `--data.field`."""
    try:
        yield
    except PrimerError as error:
        if error.hint and "primer " not in error.hint:  # which would be another verb's
            error.hint = error.hint.replace("--data.", "--")
        raise


def _asks_for_help(argv: Sequence[str]) -> bool:
    words = argv[: list(argv).index("--")] if "--" in argv else argv
    return "-h" in words or "--help" in words


def _read(verb: Verb[Any], argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    known, ambiguous = dict(leaves(verb.options)), set()
    for config in verb.configs:
        for leaf, kind in leaves(config).items():
            if leaf not in LABELS and known.setdefault(leaf, kind) != kind:
                ambiguous.add(leaf)
    values: list[str] = []
    given: dict[str, Any] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            values += words
            break
        if not word.startswith("--"):
            if word.startswith("-") and len(word) == 2 and word[1].isalpha():
                raise UsageError(f"unknown flag {word}", f"primer {verb.name}", f"primer {verb.name} --help")
            values.append(word)
            continue
        name, equals, text = word[2:].partition("=")
        key, negated = _key(name.replace("-", "_"), known)
        if key is None and name == "recipe":
            raise UsageError(
                "a recipe is named without a flag", hint=f"primer {verb.name} {text or 'shakespeare'}"
            )
        if key is None:
            section = (known_key for known_key in known if known_key.startswith(f"{name}."))
            close = next(section, None) or meant(name.replace("-", "_"), list(known))
            hint = _flag(close) if close else f"primer {verb.name} --help"
            raise UsageError(f"unknown flag --{name}", f"primer {verb.name}", hint)
        kind = known[key]
        if negated:
            if equals:
                raise UsageError(f"--{name} takes no value", hint=f"{_flag(key)}={text}")
            given[key] = False
            continue
        texts = [text] if equals else _following(kind, words, _flag(key))
        value = _value(kind, texts, given.get(key))
        try:
            # What means one thing here and another there is looked at when the recipe has said which config it has.
            given[key] = value if key in ambiguous else fit(kind, value, key, _flag(key))
        except UsageError as error:
            error.hint = error.hint or f"primer {verb.name} --help"
            raise
    return values, given


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _key(name: str, known: Mapping[str, Any]) -> tuple[str | None, bool]:
    """The field that a flag's name means, and whether it is the `no-` form of a truth value."""
    if name in known:
        return name, False
    table, dot, leaf = name.rpartition(".")
    key = f"{table}{dot}{leaf.removeprefix('no_')}"
    if leaf.startswith("no_") and known.get(key) is bool:
        return key, True
    return None, False


def _following(kind: Any, words: list[str], flag: str) -> list[str]:
    """Take a flag's values off the front of the words that follow it."""
    if kind is bool:
        return [words.pop(0)] if words and words[0].lower() in ("true", "false") else ["true"]
    if not words or words[0].startswith("--"):
        raise UsageError(f"{flag} needs a value: {in_words(_unwrapped(kind))}", hint=f"{flag}=…")
    taken = [words.pop(0)]
    if get_origin(kind) is tuple and "," not in taken[0]:
        element, *others = get_args(kind)
        most = len(words) if others == [Ellipsis] else len(others)
        while words and len(taken) <= most and element is not str and _reads_as(element, words[0]):
            taken.append(words.pop(0))
    return taken


def _reads_as(kind: Any, text: str) -> bool:
    if get_origin(kind) is Literal:
        return text in get_args(kind)
    return not isinstance(_plain(kind, text), str)


def _value(kind: Any, texts: list[str], before: Any) -> Any:
    """Plain values out of texts; what does not fit stays text, so that `config.fit` can complain about it."""
    if get_origin(kind) is not tuple:
        (text,) = texts
        return _plain(kind, text)
    element = get_args(kind)[0]
    if element is not str:
        texts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    earlier = list(before or ()) if get_args(kind)[-1] is Ellipsis else []
    return earlier + [_plain(element, text) for text in texts]


def _plain(kind: Any, text: str) -> Any:
    optional = kind is not _unwrapped(kind)
    kind = _unwrapped(kind)
    if optional and text.lower() == "none":
        return None
    readers: dict[Any, Callable[[str], Any]] = {int: int, float: float, bool: _truth}
    try:
        return readers.get(kind, str)(text)
    except ValueError:
        return text


def _truth(text: str) -> bool | str:
    choices: dict[str, bool | str] = {"true": True, "false": False}
    return choices.get(text.lower(), text)


def _unwrapped(kind: Any) -> Any:
    """X of `X | None`."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(part for part in get_args(kind) if part is not types.NoneType)
    return kind


def show_help(verb: Verb[Any], *configs: Any) -> None:
    """Print a verb's help: examples, then tyro's tables of flags (with the values of `configs` as defaults)."""
    print(textwrap.fill(verb.about, width=80), end="\n\n")
    print("examples:")
    for example in verb.examples:
        print(f"  {example}")
    print(flush=True)
    print(_through_tyro(verb, configs), end="")


def _through_tyro(verb: Verb[Any], configs: Sequence[Any]) -> str:
    """What tyro prints; nothing is returned where it may print to the terminal itself, in colour."""
    import tyro

    parts = [verb.options(), *configs]
    fields = [
        (f"part_{number}", Annotated[type(part), tyro.conf.arg(name="")], field(default=part))
        for number, part in enumerate(parts)
    ]
    flags = make_dataclass("Flags", fields, frozen=True)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and _speaks_unicode(sys.stdout)
    page = io.StringIO()
    with nullcontext() if colour else redirect_stdout(page), suppress(SystemExit):
        tyro.cli(flags, args=["--help"], prog=f"primer {verb.name} {verb.takes}".strip(), description="")
    text = page.getvalue()
    return text if _speaks_unicode(sys.stdout) else text.translate(_ASCII_BOX)


_ASCII_BOX = str.maketrans("╭╮╰╯─│", "++++-|")


def _speaks_unicode(stream: Any) -> bool:
    return "utf" in (getattr(stream, "encoding", None) or "").lower()
