"""From a word on the command line to one config: defaults < recipe < file < flags."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from primer.assets import log
from primer.config import Resolved, dotted, leaves, meant, merge, nested, spelt
from primer.corpus.parallel import NAMED as PAIRS
from primer.corpus.readers import unpacked_suffix
from primer.corpus.sources import NAMED
from primer.data.foreign import is_foreign
from primer.data.prepare import is_prepared
from primer.data.shards import TOKENIZER
from primer.errors import DataError, SurroundingsError, UsageError, nearest
from primer.models.config import PRESETS
from primer.recipes.config import (
    KINDS,
    PLACES,
    AnyConfig,
    RunConfig,
    TranslationConfig,
    config_class,
    is_dropout,
)
from primer.tokens import NAMED as TOKENIZERS

Layer = tuple[str, Mapping[str, Any]]

PRESET_RECIPE = "gpt2-124m"
"""How a preset of `models.config` is trained: as the smallest one, in its own size."""

IN_WORDS: dict[type[AnyConfig], str] = {
    RunConfig: "a language model",
    TranslationConfig: "an encoder–decoder",
}

OF_TEXTS = ("validation_fraction", "unknown", "encoding", "encoding_errors", "field")
"""Of [data]: how a text becomes tokens."""

PAIRS_ALONE = (".tsv", ".po", ".mo")
"""Endings of files that hold pairs, and hardly ever a text to go on with."""

_MAX_BYTES = 1 << 20
"""A recipe is a page of text; what is larger was named by mistake."""


def recipes() -> list[str]:
    """Names of the recipes that ship with the package, the default first."""
    names = (entry.name for entry in files("primer.recipes").iterdir())
    found = sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))
    return sorted(found, key=lambda name: name != "default")


def resolve(
    target: str | Path | None = None,
    *,
    file: str | Path | None = None,
    beneath_flags: Layer | None = None,
    flags: Mapping[str, object] | None = None,
) -> Resolved[AnyConfig]:
    """The config of a run, and where each value came from.

    `target` is the name of a recipe or of a preset of GPT-2 (gpt2-xl), else a `.toml` recipe, else a file or folder of
    text for the default recipe (None: the default recipe itself). A name wins over a file that is called the same:
    write `./name` for the file. `file` is a TOML file laid over the recipe, `flags` are dotted or nested values on
    top; between them comes what a run to start from brings along (`directory.brought_along`), except that its
    dropout gives way to the recipe's.

    Raises UsageError (unknown recipe or key, wrong type, impossible size, broken TOML), DataError (no file).
    """
    layers = _recipe_layers(target)
    if file is not None:
        layers += _file_layers(Path(file), ())
    if beneath_flags:
        origin, values = beneath_flags
        flat = dotted(values)
        dropout = {key: value for key, value in flat.items() if is_dropout(key)}
        model = {key: value for key, value in flat.items() if key not in dropout}
        layers = [(origin, dropout), *layers, (origin, model)]
    if flags:
        layers.append(("flag", beside(Path(), nested(spelt(flags)))))
    kind = kind_in(layers)
    _refuse_other_kinds(kind, layers)
    return merge(kind, _adapted(layers))


def _refuse_other_kinds(kind: type[AnyConfig], layers: list[Layer]) -> None:
    """UsageError for a flag that runs of another kind have."""
    flags = next((dotted(values) for origin, values in layers if origin == "flag"), {})
    known = leaves(kind)
    for other in KINDS.values():
        for key in flags:
            if key in leaves(other) and key not in known:
                close = meant(key, list(known))
                raise UsageError(
                    f"{IN_WORDS[kind]} has no {key}, which is for {IN_WORDS[other]}",
                    "flag",
                    f"--{close.replace('_', '-')}" if close else None,
                )


def kind_in(layers: list[Layer]) -> type[AnyConfig]:
    """The class of config that a recipe is of, which it says under `kind`; a language model where it does not."""
    said = [(origin, values["kind"]) for origin, values in layers if "kind" in values]
    if not said:
        return RunConfig
    origin, kind = said[-1]
    try:
        return config_class(kind)
    except UsageError as error:
        error.where = origin
        raise


def _adapted(layers: list[Layer]) -> list[Layer]:
    """What lower layers say gives way to what was asked for above them, where both cannot be.

    Steps that were asked for are taken, whatever time limit a recipe had set; a context that was made short needs
    no shorter one to begin with.
    """

    def last(key: str) -> int:
        return max((place for place, (_, values) in enumerate(layers) if key in dotted(values)), default=-1)

    def value(key: str) -> Any:
        return dotted(layers[last(key)][1])[key] if last(key) >= 0 else 0

    more: list[Layer] = []
    of_texts = kind_in(layers) is RunConfig
    theirs = _tokenizerbeside(value("data.source")) if of_texts else None
    if theirs:
        _refuse_without_effect(layers)
    if theirs and not any(
        "data.tokenizer" in dotted(values) for origin, values in layers if not _ships(origin)
    ):
        more.append(("that of the shards", {"data.tokenizer": theirs}))
    if last("train.steps") > last("train.minutes") >= 0:
        more.append(("unlimited, since steps were given", {"train.minutes": 0.0}))
    length, short = value("model.context_length"), value("train.short_context")
    numbers = isinstance(length, int) and isinstance(short, int)
    if last("model.context_length") > last("train.short_context") >= 0 and numbers and short > length:
        more.append(("off, since the context is shorter", {"train.short_context": 0}))
    return _with_shorter_warmup([*layers, *more])


def _refuse_without_effect(layers: list[Layer]) -> None:
    """UsageError for a flag that says how a text becomes tokens, where the tokens are there."""
    flags = next((dotted(values) for origin, values in layers if origin == "flag"), {})
    given = [f"data.{name}" for name in OF_TEXTS if f"data.{name}" in flags]
    if given:
        raise UsageError(
            f"{', '.join(given)} was decided when these tokens were made",
            str(flags.get("data.source", "data.source")),
            f"leave {', '.join('--' + key.replace('_', '-') for key in given)} out",
        )


def _ships(origin: str) -> bool:
    """Whether a layer is not a person's choice, but comes with a recipe's name."""
    return origin.startswith(("recipe ", "preset "))


def _tokenizerbeside(source: object) -> str | None:
    """The tokenizer that a source's tokens were made with, where it holds tokens: as others publish them, GPT-2's."""
    if not isinstance(source, str):
        return None
    if is_prepared(source):
        return str(Path(source).resolve() / TOKENIZER)
    return "gpt2" if is_foreign(source) else None


def _with_shorter_warmup(layers: list[Layer]) -> list[Layer]:
    """A run that is asked to be short warms up for a tenth of its steps at most.

    A warm-up that was itself asked for stays what it is, and one that is too long is then an error.
    """
    above = [dotted(values) for origin, values in layers if not origin.startswith("recipe ")]
    asked = {key: value for values in above for key, value in values.items()}
    steps = asked.get("train.steps")
    if not isinstance(steps, int) or "schedule.warmup" in asked:
        return layers
    shipped = [layer for layer in layers if layer[0].startswith("recipe ")]
    recipe = merge(kind_in(layers), shipped).config.schedule
    fitting = recipe.fitting(max(0, steps))
    if fitting == recipe:
        return layers
    return [*layers, ("a tenth of the steps", {"schedule.warmup": fitting.warmup})]


def _recipe_layers(target: str | Path | None) -> list[Layer]:
    if target is None:
        return _shipped("default")
    if not str(target):  # an unset variable of a shell
        raise UsageError("neither a recipe nor a text has an empty name", hint="primer train, without a name")
    if isinstance(target, str) and target in named():
        return _named_layers(target)
    path = Path(target)
    if len(os.fsencode(path.name)) > 255:  # no system has longer names, and asking for one is an error
        raise UsageError(f"too long for a recipe or a path: {path.name[:40]}…", hint="primer train FILE")
    if path.suffix.lower() == ".toml" and not path.is_dir():
        *bases, (origin, values) = _file_layers(path, ())
        return [*bases, (origin, {"recipe": path.stem, **values})]
    if path.exists():
        if unpacked_suffix(path) in PAIRS_ALONE:
            log.warning(
                "%s is read as one text; pairs of sentences: primer train translation --data.source=%s",
                path.name,
                path,
            )
        return [*_shipped("default"), ("text", {"data.source": str(path.resolve())})]
    if path.suffix or len(path.parts) > 1:
        raise DataError(f"no such file: {path}", hint="a path to a text, a folder of texts or a .toml recipe")
    raise unknown_recipe(str(target))


def unknown_recipe(name: str) -> UsageError:
    """The error for a word that is neither a recipe nor a path."""
    close = nearest(name, named())
    hint = f"primer train {close}" if close else "one of " + ", ".join(named())
    return UsageError(f"{name!r} is no recipe, and no file or folder of that name is here", hint=hint)


def named() -> list[str]:
    """Every word that is a recipe: those that ship with the package, and GPT-2's presets."""
    return [*recipes(), *PRESETS]


def _named_layers(name: str) -> list[Layer]:
    if name not in PRESETS:
        return _shipped(name)
    about = f"GPT-2 in the size of {name}, trained as recipe {PRESET_RECIPE} is"
    own = {"recipe": name, "about": about, "model": PRESETS[name]}
    return [*_shipped(PRESET_RECIPE), (f"preset {name}", own)]


def _shipped(name: str) -> list[Layer]:
    content = files("primer.recipes").joinpath(f"{name}.toml").read_bytes()
    values = _parse(content, f"{name}.toml")
    return [(f"recipe {name}", {"recipe": name, **values})]


def _file_layers(path: Path, above: tuple[Path, ...]) -> list[Layer]:
    """The layers of a TOML file, those of the recipe that it names as its `base` first."""
    if path.resolve() in above:
        raise UsageError("a recipe is its own base", str(path), f"remove base = … from {path.name}")
    values = beside(path.parent, _parse(_read(path), str(path)))
    base = values.pop("base", None)
    if base is None:
        return [(str(path), values)]
    if not isinstance(base, str):
        raise UsageError(
            f"base must be a recipe's name or a .toml file, got {base!r}", str(path), 'base = "shakespeare"'
        )
    if base in named():
        return [*_named_layers(base), (str(path), values)]
    if base.endswith(".toml"):
        return [*_file_layers(path.parent / base, (*above, path.resolve())), (str(path), values)]
    close = nearest(base, named())
    known = f'base = "{close}"' if close else "one of " + ", ".join(named())
    raise UsageError(f"unknown base {base!r}", str(path), known)


def beside(folder: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Nested values written in a folder, with a text and a tokenizer that lie there named so that anyone finds them."""
    data = values.get("data")
    if not isinstance(data, dict):
        return values
    found = {}
    texts, vocabularies = (*NAMED, *PAIRS), ("char", "bpe", *TOKENIZERS)
    for key, named in (*((name, texts) for name in PLACES), ("tokenizer", vocabularies)):
        path = data.get(key)
        if isinstance(path, str | Path) and str(path) not in ("", *named) and os.path.exists(folder / path):
            found[key] = str((folder / path).resolve())
    return {**values, "data": {**data, **found}}


def _read(path: Path) -> bytes:
    try:
        if not path.is_file():
            missing = f"no such file: {path}" if not path.exists() else f"{path} is not a file"
            raise DataError(missing, hint="one of these, or a file of your own: " + ", ".join(recipes()))
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except PermissionError as error:
        raise SurroundingsError(f"no permission to read {path}", hint=f"chmod u+r {path}") from error
    if len(content) > _MAX_BYTES:
        raise UsageError(f"{path} is too large for a recipe (over 1 MiB)", hint="a TOML file of a few lines")
    return content


def _parse(content: bytes, where: str) -> dict[str, Any]:
    """The values of a TOML text; what cannot be read is a UsageError with its line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start}",
            f"{where}, line {line}",
            "save the file as UTF-8",
        ) from error
    try:
        return nested(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        reason, _, place = message.removesuffix(")").rpartition(" (at ")
        line_of = place.split(",")[0] if place else ""
        if line_of == "end of document":
            line_of = f"line {text.count(chr(10), 0, len(text.rstrip())) + 1}"
        raise UsageError(
            f"not valid TOML: {reason or message}",
            f"{where}, {line_of}" if line_of else where,
            'lines like: name = 1, or name = "text", under [model], [data], [optim], [schedule], [train]',
        ) from error
    except RecursionError as error:
        raise UsageError(
            "not a recipe: nested too deeply", where, "one level of tables: [model], [train] …"
        ) from error
    except ValueError as error:  # an integer of more digits than Python reads
        raise UsageError(f"not a recipe: {error}", where, "a smaller number") from error
