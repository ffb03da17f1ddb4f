"""Numbers as their bits, for the terminal: what `primer float` prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Literal

from primer.cli.digits import about, as_plain, exact, short
from primer.cli.table import table
from primer.floats import codec
from primer.floats.codec import Value
from primer.floats.formats import (
    BLOCKS,
    FORMATS,
    INTEGERS,
    Element,
    FloatFormat,
    Format,
    IntFormat,
    Overflow,
    Rounding,
)

ELEMENTS: tuple[Element, ...] = (*FORMATS.values(), *INTEGERS.values())
"""All formats whose codes say a number each."""
COLOURS = {"sign": 31, "exponent": 32, "mantissa": 36, "two's complement": 36}


def parts(code: int, form: Element) -> list[tuple[str, str]]:
    """The fields of a code, from the left: their name, and their bits as text."""
    text = f"{code:0{form.bits}b}"
    if isinstance(form, IntFormat):
        return [("two's complement", text)]
    edge = form.signed + form.exponent_bits
    pieces = (text[: int(form.signed)], text[int(form.signed) : edge], text[edge:])
    return [(name, piece) for name, piece in zip(COLOURS, pieces, strict=False) if piece]


def bits(code: int, form: Element) -> str:
    """A code with gaps between its fields, which are coloured where the terminal shows that."""
    return " ".join(coloured(text, COLOURS[name]) for name, text in parts(code, form))


def coloured(text: str, colour: int) -> str:
    """The text in a colour, on a terminal that was not told to leave that."""
    fit = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return f"\x1b[{colour}m{text}\x1b[0m" if fit else text


def hexadecimal(code: int, form: Element) -> str:
    """A code as one types it."""
    return f"{code:#0{2 + -(-form.bits // 4)}x}"


def decoded(code: int, form: Element) -> Value:
    """What a code says. Where it has the code of −0, the one NaN of a format has no sign."""
    value = codec.decode(code, form)
    if value.kind == "nan" and isinstance(form, FloatFormat) and form.specials == "fnuz":
        return replace(value, negative=False)
    return value


def meaning(code: int, form: Element) -> str:
    """What a code says, as a formula."""
    value = codec.decode(code, form)
    if value.kind != "number":
        return "not a number" if value.kind == "nan" else f"{'−' if value.negative else '+'}infinity"
    sign = "−" if value.negative else "+"
    if isinstance(form, IntFormat):
        first, rest = code >> (form.bits - 1), code & ((1 << (form.bits - 1)) - 1)
        said = f"−{1 << (form.bits - 1)} + {rest}" if first else f"+{rest}"
        return f"({said}) / {1 << form.fraction_bits}" if form.fraction_bits else said
    field = codec.fields(code, form)
    M = form.mantissa_bits
    fraction = f"{field.mantissa}/{1 << M}"
    if field.exponent == 0 and form.subnormals:
        return f"{sign}2^(1 − {form.bias}) · (0 + {fraction})    subnormal: no 1 before the point"
    mantissa = f" · (1 + {fraction})" if M else ""
    return f"{sign}2^({field.exponent} − {form.bias}){mantissa}"


def described(x: Value, form: Element, rounding: Rounding, overflow: Overflow | None) -> dict[str, Any]:
    """All that there is to say of a number in a format, as plain values."""
    code = codec.encode(x, form, rounding, overflow=overflow)
    found = decoded(code, form)
    told: dict[str, Any] = {
        "format": form.name,
        "code": hexadecimal(code, form),
        "bits": " ".join(text for _, text in parts(code, form)),
        "formula": meaning(code, form),
        "value": exact(found),
    }
    if x.kind == "number" and found.kind == "number":
        step, error = codec.ulp(x, form), found.exact - x.exact
        told |= {
            "error": exact(Value(abs(error), error < 0)),
            "ulp": exact(Value(step)),
            "error_in_ulp": as_plain(error / step),
            "relative_error": None if (part := relative(error, x)) is None else as_plain(part),
        }
    if found.kind == "number":
        beside: tuple[tuple[str, Literal["up", "down"]], ...] = (("below", "down"), ("above", "up"))
        for name, direction in beside:
            near = codec.nextafter(code, form, direction)
            if near is not None:
                told[name] = {"code": hexadecimal(near, form), "value": exact(decoded(near, form))}
    return told


def relative(error: Fraction, x: Value) -> Fraction | None:
    """An error as a part of the number; None of zero, which only a format without one misses."""
    if not x.magnitude:
        return None if error else Fraction(0)
    return abs(error) / x.magnitude


def off_by(x: Value, found: Value, form: Element) -> str:
    """How far what a number became is from it."""
    step, error = codec.ulp(x, form), found.exact - x.exact
    if not error:
        return "exact"
    part = relative(error, x)
    off = f"off by {about(error / step, 3, sign=True)} ulp (of {short(Value(step))})"
    return off if part is None else f"{off}, {about(100 * part, 2)}%"


def one(x: Value, form: Element, rounding: Rounding, overflow: Overflow | None) -> str:
    """A number in a format, for people: its bits, what they say, how far off, and what lies beside it."""
    told = described(x, form, rounding, overflow)
    code = int(told["code"], 16)
    names = [name for name, _ in parts(code, form)]
    lines = [
        f"{short(x)} in {form.name}: {form.about}",
        "",
        f"  {bits(code, form)}    {told['code']}",
        f"  {' '.join(coloured(name, COLOURS[name]) for name in names)}",
        "",
        f"  {told['formula']}",
        f"= {told['value']}",
    ]
    if "error" in told:
        lines.append(f"  {off_by(x, decoded(code, form), form)}")
    lines += [
        f"  {name + ':':<6} {told[name]['value']}  {told[name]['code']}"
        for name in ("below", "above")
        if name in told
    ]
    return "\n".join(lines)


def in_every_format(
    x: Value, rounding: Rounding, overflow: Overflow | None, more: Sequence[Element] = ()
) -> str:
    """A table of one number in all formats."""
    rows = [("format", "bits", "value", "relative error", "in ulp")]
    known = {form.name: form for form in (*ELEMENTS, *more)}
    for form in known.values():
        if x.kind == "nan" and not form.has_nan:
            rows.append((form.name, "", "has no NaN", "", ""))
            continue
        code = codec.encode(x, form, rounding, overflow=overflow)
        found = decoded(code, form)
        off = ulps = ""
        if x.kind == "number" and found.kind == "number":
            error = found.exact - x.exact
            part = relative(error, x)
            off = "exact" if not error else "" if part is None else about(part, 2)
            ulps = "" if not error else about(error / codec.ulp(x, form), 3, sign=True)
        rows.append((form.name, bits(code, form), short(found), off, ulps))
    return aligned(rows, right={3, 4})


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """`table`, whose columns do not count what only colours."""
    plain = [[uncoloured(cell) for cell in row] for row in rows]
    lines = table(plain, right=right).splitlines()
    for number, (row, bare) in enumerate(zip(rows, plain, strict=True)):
        for cell, text in zip(row, bare, strict=True):
            if cell != text:
                lines[number] = lines[number].replace(text, cell, 1)
    return "\n".join(lines)


def uncoloured(text: str) -> str:
    """Without escape sequences."""
    while "\x1b[" in text:
        before, _, rest = text.partition("\x1b[")
        text = before + rest.partition("m")[2]
    return text


def every_code(form: Element) -> Iterator[tuple[str, str, str, str]]:
    """A row a code: the code, its bits, its number, and what kind of number that is."""
    for code in range(1 << form.bits):
        value = decoded(code, form)
        yield hexadecimal(code, form), bits(code, form), short(value), kind_of(value, form)


def kind_of(value: Value, form: Element) -> str:
    """What is to be said of a number in a format."""
    if value.kind != "number":
        return ""
    if not value.magnitude:
        return "zero"
    if isinstance(form, IntFormat):
        return {form.largest: "the largest", form.lowest: "the lowest"}.get(value.exact, "")
    marks = {
        form.smallest: "the smallest",
        form.smallest_normal: "the smallest normal",
        form.largest: "the largest",
    }
    if value.exact in marks:
        return marks[value.exact]
    return "subnormal" if value.magnitude < form.smallest_normal else ""


def listing() -> str:
    """Every format with its range."""
    head = ("format", "bits", "E", "M", "largest", "smallest normal", "smallest", "1 + …", "what it is")
    forms: tuple[Format, ...] = (*ELEMENTS, *BLOCKS.values())
    rows: list[tuple[str, ...]] = [head, *map(row_of, forms)]
    return table(rows, right={1, 2, 3, 4, 5, 6, 7}, cut=8)


def row_of(form: Format) -> tuple[str, ...]:
    """A format's line in the list."""
    if isinstance(form, FloatFormat):
        ends = (form.largest, form.smallest_normal, form.smallest, form.epsilon)
        numbers = [f"{float(each):.4g}" for each in ends]
        return (
            form.name,
            str(form.bits),
            str(form.exponent_bits),
            str(form.mantissa_bits),
            *numbers,
            form.about,
        )
    if isinstance(form, IntFormat):
        return (form.name, str(form.bits), "", "", str(form.largest), "", str(form.smallest), "", form.about)
    scale = f"{form.element.name}, a scale in {form.scale.name} for each {form.block}"
    return (form.name, f"{float(form.bits):g}", "", "", "", "", "", "", f"{scale}; {form.about}")
