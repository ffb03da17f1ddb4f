"""What `primer float` is asked for: one thing at a time, and the flags that say something of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from primer.errors import UsageError
from primer.floats import codec
from primer.floats.codec import Value
from primer.floats.formats import BlockFormat, Element, FloatFormat, named

if TYPE_CHECKING:
    from primer.cli.float import Options

Asked = Literal["number", "block", "code", "table", "formats", "weights", "tensor", "weight", "histogram"]

_RUN = {"run", "runs_dir", "json"}
TAKES: dict[Asked, set[str]] = {
    "number": {"format", "rounding", "overflow", "json"},
    "block": {"format", "json"},
    "code": {"code", "format", "rounding", "overflow", "json"},
    "table": {"table", "json"},
    "formats": {"formats", "json"},
    "weights": _RUN,
    "tensor": {*_RUN, "tensor", "format", "rounding"},
    "weight": {*_RUN, "tensor", "index", "format", "rounding", "overflow"},
    "histogram": {*_RUN, "histogram", "tokens", "plot"},
}
"""Which flags say something of what."""

IN_WORDS: dict[Asked, str] = {
    "number": "a number",
    "block": "a block",
    "code": "--code",
    "table": "--table",
    "formats": "--formats",
    "weights": "--run alone",
    "tensor": "--tensor",
    "weight": "--index",
    "histogram": "--histogram",
}

GOES_WITH = {
    "format": ("a number, --code or --tensor", "primer float 0.1 --format=bf16"),
    "rounding": ("a number, --code or --tensor", "primer float 0.1 --rounding=up"),
    "overflow": ("a number, --code or --index", "primer float 1000 --format=e4m3 --overflow=ieee"),
    "tensor": ("--run", "primer float --run=latest lists what there is"),
    "index": ("--tensor", "primer float --run=latest lists what there is"),
    "histogram": ("--run", "primer float --run=latest --histogram"),
    "tokens": ("--histogram", "primer float --run=latest --histogram --tokens=4096"),
    "plot": ("--histogram", "primer float --run=latest --histogram --plot=exponents.png"),
    "runs_dir": ("--run", "primer float --run=latest"),
}
"""Flags that say more of something else: of what, and how that is written."""


def asked(options: Options, values: Sequence[str]) -> Asked:
    """The one thing that was asked for. UsageError for none, for two, and for a flag that says nothing of it."""
    usual = type(options)()
    given = {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if getattr(options, field.name) != getattr(usual, field.name)
    }
    things = _things(given, values)
    if len(things) > 1:
        (first, _), (second, command) = things[:2]
        raise UsageError(f"{first} or {second}, not both", "primer float", command)
    what: Asked = _which(given)
    if values and isinstance(named(options.format or "fp32"), BlockFormat):
        what = "block"
    elif len(values) > 1:
        raise UsageError(
            f"one argument too many: {values[1]!r}",
            "primer float",
            "primer float 1 2 3 --format=mxfp4: a block of numbers",
        )
    for name in given:
        if things and name not in TAKES[what]:
            goes, hint = GOES_WITH[name]
            raise UsageError(f"{flag(name)} goes with {goes}, not with {IN_WORDS[what]}", hint=hint)
    if not things:
        for name in (name for name in given if name in GOES_WITH):
            goes, hint = GOES_WITH[name]
            raise UsageError(f"{flag(name)} goes with {goes}", hint=hint)
        raise UsageError("primer float needs a number", hint="primer float 0.1 --format=bf16")
    return what


def _things(given: dict[str, Any], values: Sequence[str]) -> list[tuple[str, str]]:
    """What was named to be shown, and the command for that alone."""
    found = [("a number", f"primer float {values[0]}")] if values else []
    for name in ("code", "table", "formats", "run"):
        if name in given:
            text = "" if given[name] is True else f"={given[name]}"
            found.append((flag(name), f"primer float {flag(name)}{text}"))
    return found


def _which(given: dict[str, Any]) -> Asked:
    if "run" in given:
        if "histogram" in given:
            return "histogram"
        return "weights" if "tensor" not in given else "weight" if "index" in given else "tensor"
    named: tuple[Asked, ...] = ("code", "table", "formats")
    return next((name for name in named if name in given), "number")


def flag(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"


_NAN = re.compile(r"([+-]?)nan\((\w+)\)")


def as_number(text: str, form: Element) -> Value:
    """The number that was typed; of `nan(0x123)` with what a NaN of this format has in its mantissa."""
    word = text.strip().lower().replace("−", "-")
    if not (found := _NAN.fullmatch(word)):
        return codec.value(text)
    places = form.mantissa_bits if isinstance(form, FloatFormat) else 0
    try:
        payload = int(found[2], 0)
    except ValueError:
        payload = 0
    if not 0 < payload < 1 << places:
        most = f"nan(0x1) to nan({(1 << places) - 1:#x})" if places else "nan"
        raise UsageError(f"{text!r} is no NaN of {form.name}", hint=most)
    return Value(kind="nan", negative=found[1] == "-", payload=payload, payload_bits=places)


def as_code(text: str, form: Element) -> int:
    """The bits that were typed: 0x3dcd, 0b0011110111001101, or as they are printed, 0 01111011 1001101."""
    word = text.replace(" ", "").replace("_", "")
    if set(word) <= {"0", "1"} and (len(word) == form.bits or " " in text.strip()):
        if len(word) != form.bits:
            raise UsageError(
                f"{text!r} has {len(word)} bits, and a code of {form.name} {form.bits}",
                hint=f"--format, if they are another's, or {flag('code')}=0x3dcd",
            )
        return int(word, 2)
    try:
        return int(word, 0)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a code", hint="--code=0x3dcd, --code=0b0011110111001101, or as bits are printed"
        ) from None
