"""Frozen dataclasses in and out of mappings, TOML and layers; every mistake is named with its place.

A config is a frozen dataclass whose fields are `int`, `float`, `str`, `bool`, a `Literal`, a `tuple` of
those, one of those `| None` (with `None` as its default), or another config. A dotted key such as
`model.n_heads` is an address everywhere: in TOML tables, in flags, in errors. `None` is left out of TOML.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Walk:
...     steps: int = 10
...     pace: float = 1.5
>>> merge(Walk, [("recipe", {"pace": 2}), ("flag", {"steps": 3})]).origins
{'steps': 'flag', 'pace': 'recipe'}
"""

from __future__ import annotations

import math
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from primer.errors import UsageError, nearest

C = TypeVar("C")


@dataclass(frozen=True)
class Resolved(Generic[C]):
    """A config, and for each of its dotted keys the layer that its value came from."""

    config: C
    origins: dict[str, str]


def spelt(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags by their keys, which may be written with hyphens as on a command line."""
    return {key.replace("-", "_"): value for key, value in flags.items()}


def nested(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Open dotted keys into tables: {"train.steps": 3} → {"train": {"steps": 3}}. Later keys win."""
    tree: dict[str, Any] = {}
    for key, value in mapping.items():
        *tables, leaf = key.split(".")
        place = tree
        for table in tables:
            place = _table(place, table, key)
        if isinstance(value, Mapping):
            inner = _table(place, leaf, key)
            inner.update(nested({**dotted(inner), **dotted(value)}))
        else:
            place[leaf] = value
    return tree


def _table(place: dict[str, Any], name: str, key: str) -> dict[str, Any]:
    table = place.setdefault(name, {})
    if not isinstance(table, dict):
        raise UsageError(
            f"{name} is both a value and a table of values (in {key})", hint=f"one of the two: [{name}]"
        )
    return table


def dotted(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Close tables into dotted keys: {"train": {"steps": 3}} → {"train.steps": 3}."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            flat.update(dotted(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Types of a config's fields. They are evaluated from text, which takes longer than all else here."""
    return get_type_hints(cls)


def leaves(cls: type) -> dict[str, Any]:
    """The dotted key of every value in a config, in the order of its fields, with the value's type."""
    found: dict[str, Any] = {}
    hints = _hints(cls)
    for field in fields(cls):
        hint = hints[field.name]
        if is_dataclass(hint):
            inner = leaves(hint)  # type: ignore[arg-type]  # a dataclass used as an annotation is a type
            found.update({f"{field.name}.{key}": kind for key, kind in inner.items()})
        else:
            found[field.name] = hint
    return found


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested values: tables are dicts, tuples are lists."""
    plain: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            plain[field.name] = to_dict(value)
        else:
            plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain


def from_dict(cls: type[C], mapping: Mapping[str, Any], where: str | None = None) -> C:
    """Build `cls` from nested or dotted plain values; what is not given keeps its default.

    Raises UsageError for an unknown key (naming the nearest), a value of the wrong type (naming the key, what
    was expected and what was got), a number that is not finite, and for what the config itself refuses.
    """
    return merge(cls, [(where or "", mapping)]).config


def merge(cls: type[C], layers: Sequence[tuple[str, Mapping[str, Any]]]) -> Resolved[C]:
    """Lay mappings over the defaults of `cls`, later ones on top, and remember where each value came from.

    Each layer is (origin, nested or dotted values). An error names the origin of the values that it is about.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(leaves(cls), "default")
    for origin, mapping in layers:
        layer = _checked(cls, mapping, origin)
        values.update(layer)
        origins.update(dict.fromkeys(layer, origin))
    try:
        return Resolved(_build(cls, values), origins)
    except UsageError as error:  # what the config itself refuses: say which layers the values came from
        named = [key for key in origins if re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.]\w)", error.cause)]
        sources = [f"{key} from {origins[key]}" for key in named if origins[key] not in ("default", "")]
        error.where = error.where or ", ".join(sources) or None
        error.hint = error.hint or "; ".join(_usual(cls, key) for key in named) or None
        raise


def _usual(cls: type, key: str) -> str:
    """The flag that sets a key to its default: one value that fits."""
    return f"--{key.replace('_', '-')}={_toml(dotted(to_dict(cls()))[key], key)}, the default"


def to_toml(config: Any, comments: Mapping[str, str] | None = None) -> str:
    """TOML that `tomllib` reads back to the same config: single values first, then one table a part.

    `comments` puts a remark behind the lines of the dotted keys it names.
    """
    lines: list[tuple[str, str]] = []
    _write_table(config, "", comments or {}, lines)
    width = max((len(text) for text, remark in lines if remark and len(text) < 40), default=0)
    return "".join(f"{text:<{width}}  # {remark}\n" if remark else f"{text}\n" for text, remark in lines)


def _checked(cls: type, mapping: Mapping[str, Any], where: str | None) -> dict[str, Any]:
    """The mapping's values by dotted key, each of its field's type."""
    known = leaves(cls)
    tables = {key[:end] for key in known for end, char in enumerate(key) if char == "."}
    typed: dict[str, Any] = {}
    for key, value in _entries(nested(mapping), tables):
        if key in tables:
            raise UsageError(f"{key} is a table of values, got {value!r}", where, _offer(known, key))
        if key not in known:
            raise UsageError(f"unknown key {key}", where, meant(key, [*known, *sorted(tables)]))
        try:
            typed[key] = fit(known[key], value, key, where)
        except UsageError as error:
            error.hint = error.hint or _usual(cls, key)
            raise
    return typed


def _entries(tree: Mapping[str, Any], tables: set[str], prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) pairs; a table that the config does not have is one value, so it can be named."""
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and key in tables:
            found.extend(_entries(value, tables, f"{key}."))
        else:
            found.append((key, value))
    return found


def meant(key: str, known: list[str]) -> str | None:
    """The known dotted key that was probably meant: the same last name elsewhere, else the nearest."""
    leaf = key.rpartition(".")[2]
    same = [candidate for candidate in known if candidate.rpartition(".")[2] == leaf]
    if same:
        return nearest(key, same) or same[0]
    by_leaf = {candidate.rpartition(".")[2]: candidate for candidate in reversed(known)}
    close = nearest(leaf, list(by_leaf))
    return nearest(key, known) or (by_leaf[close] if close else None)


def _offer(known: Mapping[str, Any], table: str) -> str:
    return "one of " + ", ".join(key for key in known if key.startswith(f"{table}."))


def fit(kind: Any, value: Any, key: str, where: str | None) -> Any:
    """`value` as the type `kind` of a field, or a UsageError that names the key, what fits and what was got."""
    if get_origin(kind) in (Union, types.UnionType):
        if value is None:
            return None
        (kind,) = [part for part in get_args(kind) if part is not types.NoneType]
    if get_origin(kind) is tuple and isinstance(value, (list, tuple)):
        parts = get_args(kind)
        if parts[-1] is Ellipsis:
            parts = (parts[0],) * len(value)
        if len(parts) == len(value):
            return tuple(fit(part, item, key, where) for part, item in zip(parts, value, strict=True))
    if get_origin(kind) is Literal:
        for choice in get_args(kind):
            if type(value) is type(choice) and value == choice:
                return value
    if kind is float and type(value) in (int, float):
        number = _as_float(value)
        if math.isfinite(number):
            return number
        raise UsageError(f"{key} must be a finite number, got {value}", where)
    if kind is int and type(value) is int and not -(1 << 63) <= value < 1 << 63:
        raise UsageError(f"{key} must be a number of at most 64 bits, got {_got(value)}", where)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    choices = [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else []
    raise UsageError(
        f"{key} must be {in_words(kind)}, got {_got(value)}", where, nearest(str(value), choices)
    )


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1.8e308
        return math.inf


def in_words(kind: Any) -> str:
    """A field's type in the user's words."""
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(kind))
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if parts[-1] is Ellipsis:
            return f"a list, each {in_words(parts[0])}"
        return f"a list of {len(parts)}, each {in_words(parts[0])}"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[kind]


def _got(value: Any) -> str:
    try:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= 80 else f"{text[:77]}…"


def _build(cls: type[C], typed: Mapping[str, Any]) -> C:
    """An instance from values that fit, by dotted key. Its parts are built first: they check themselves."""
    tree = nested(typed)
    hints = _hints(cls)  # type: ignore[arg-type]  # classes are hashable
    given: dict[str, Any] = {}
    for field in fields(cls):  # type: ignore[arg-type]  # every C here is a dataclass
        hint = hints[field.name]
        if is_dataclass(hint):
            given[field.name] = _build(hint, dotted(tree.get(field.name, {})))  # type: ignore[arg-type]
        elif field.name in tree:
            given[field.name] = tree[field.name]
    return cls(**given)


def _write_table(config: Any, prefix: str, comments: Mapping[str, str], lines: list[tuple[str, str]]) -> None:
    tables = []
    for field in fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            tables.append((key, value))
        elif value is None:
            assert field.default is None, f"{key} could not be left out of TOML"
        else:
            lines.append((f"{field.name} = {_toml(value, key)}", comments.get(key, "")))
    for key, table in tables:
        lines += [("", ""), (f"[{key}]", "")]
        _write_table(table, f"{key}.", comments, lines)


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def _toml(value: Any, key: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(item, key) for item in value) + "]"
    if not isinstance(value, str):
        return repr(value)
    if any("\ud800" <= char <= "\udfff" for char in value):  # half a character: no Unicode file can hold it
        raise UsageError(f"{key} is not valid Unicode: {value!r}", hint="rename the file, or LC_ALL=C.UTF-8")
    quoted = "".join(
        _ESCAPES.get(char) or (f"\\u{ord(char):04X}" if char < " " or char == "\x7f" else char)
        for char in value
    )
    return f'"{quoted}"'
