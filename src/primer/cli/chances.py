"""Rounding by chance, for the terminal: what a number may become, and with what probability."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from primer.cli import bits
from primer.cli.digits import about, as_plain, exact, short
from primer.floats import codec
from primer.floats.codec import Value
from primer.floats.formats import Element, Overflow

Outcomes = Sequence[tuple[int, Fraction]]
"""Codes with their probabilities, the likeliest first."""


def outcomes(x: Value, form: Element, overflow: Overflow | None) -> Outcomes:
    """What a number may become: one code, or two. The part of a step that it has gone is the chance of the next one."""
    near = codec.encode(x, form, "stochastic", overflow=overflow, chance=0)
    far = codec.encode(x, form, "stochastic", overflow=overflow, chance=1)
    if near == far:
        return [(near, Fraction(1))]
    gone = x.magnitude / codec.ulp(x, form) % 1
    return sorted([(near, 1 - gone), (far, gone)], key=lambda each: -each[1])


def in_words(x: Value, form: Element, overflow: Overflow | None) -> str:
    """A number's two outcomes in one format, and in all of them."""
    lines = [f"{short(x)} in {form.name}, rounded by chance: the nearer, the likelier", ""]
    for code, chance in outcomes(x, form, overflow):
        value = exact(bits.decoded(code, form))
        lines.append(
            f"  {bits.bits(code, form)}    {bits.hexadecimal(code, form)}    {value}  {percent(chance)}"
        )
    rows = [("format", "becomes", "", "or", "")]
    for each in dict.fromkeys((*bits.ELEMENTS, form)):
        found = [(short(bits.decoded(code, each)), percent(p)) for code, p in outcomes(x, each, overflow)]
        rows.append((each.name, *found[0], *(found[1] if len(found) > 1 else ("", ""))))
    return "\n".join([*lines, "", bits.aligned(rows, right={2, 4})])


def percent(chance: Fraction) -> str:
    """A probability for people: one that is small is not none, and one that is large not certain."""
    return f"{about(100 * chance, 3)}%" if chance < Fraction(999, 1000) or chance == 1 else ">99.9%"


def as_json(x: Value, form: Element, overflow: Overflow | None) -> str:
    """The same as plain values."""

    def told(each: Element) -> dict[str, Any]:
        found = [
            {
                "code": bits.hexadecimal(code, each),
                "value": exact(bits.decoded(code, each)),
                "probability": as_plain(p),
            }
            for code, p in outcomes(x, each, overflow)
        ]
        return {"format": each.name, "outcomes": found}

    every = [told(each) for each in bits.ELEMENTS]
    return json.dumps({"number": exact(x), **told(form), "formats": every}, ensure_ascii=False)
