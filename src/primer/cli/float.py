"""`primer float`: the bits of a number, of every code of a format, of a weight; and what a run needs of a format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from primer.cli import bits
from primer.cli.asked import as_code, as_number, asked
from primer.cli.digits import exact
from primer.cli.flags import Verb, parse, show_help
from primer.errors import UsageError
from primer.floats.codec import Value
from primer.floats.formats import BLOCKS, Element, FloatFormat, Format, Overflow, Rounding, element

MOST_CODES = 16
"""Bits of a format whose codes are all printed."""


@dataclass(frozen=True)
class Options:
    """Of the command."""

    format: str = ""
    """Which format: fp64, fp32, tf32, fp16, bf16, e4m3, e5m2, e3m2, e2m3, e2m1, e8m0, int8 …, or a split of your own:
    e3m4 (also e3m4fn: no infinity; e3m4b7: a bias of 7). Empty: fp32, and the number in every format."""
    code: str = ""
    """A code instead of a number: 0x3dcd, 0b0011, or bits as they are printed, "0 01111011 1001101"."""
    rounding: Rounding = "nearest"
    """Which of its two neighbours a number becomes; stochastic: either, and with what probability is told."""
    overflow: Literal["default", "saturate", "ieee"] = "default"
    """What a number beyond the largest becomes: the largest, or infinity (NaN where there is none). default: infinity
    where the format has it."""
    table: str = ""
    """Print every code of this format."""
    formats: bool = False
    """List the formats with their ranges."""
    run: str = ""
    """A run whose weights are looked at: a path, the beginning of an id, or latest."""
    tensor: str = ""
    """Which of its weights; empty: list them."""
    index: tuple[int, ...] = ()
    """Which number of that: --index=0,3. Empty: what each format would make of all of it."""
    histogram: bool = False
    """The exponents of a run's weights, activations and gradients, with the formats' ranges drawn beneath. Gradients
    are those of the mean loss over a batch as large as the run's own, before clipping and without a loss scale."""
    tokens: int = 4096
    """Of the validation text that the histogram's activations and gradients come from: the more, the rarer numbers are
    seen; how large they are does not depend on it."""
    plot: str | None = None
    """Draw the histogram into this file too: .png or .svg (needs the extra "plots")."""
    json: bool = False
    """Print JSON."""
    runs_dir: str = "runs"
    """Where runs are kept."""

    def __post_init__(self) -> None:
        if self.tokens < 2:
            raise UsageError("--tokens must be at least 2", hint="--tokens=4096")


VERB = Verb(
    name="float",
    takes="[NUMBER …]",
    about="Show a number bit by bit: its sign, exponent and mantissa, exactly what they say, the numbers beside it, "
    "and what it becomes in every format. Numbers are decimal, hexadecimal (0x1.8p3), fractions (1/3), inf or nan, and "
    "read exactly. Several with a block format (mxfp4): their scale, and what they become. Also every code of a "
    "format, a weight of a run, and which exponents a run's numbers have.",
    examples=(
        "primer float 0.1 --format=bf16",
        "primer float --table=e2m1",
        "primer float --run=latest --histogram",
    ),
    options=Options,
    most=32,
)


def run(argv: Sequence[str]) -> int:
    """Print what was asked for."""
    arguments = parse(VERB, argv)
    options = arguments.options
    if arguments.help:
        show_help(VERB)
        return 0
    what = asked(options, arguments.values)
    if what == "formats":
        return of_formats(options)
    if what == "table":
        return of_codes(element(options.table), options)
    if what == "block":
        from primer.cli.block import of_block

        return of_block(arguments.values, options)
    if what in ("weights", "tensor", "weight", "histogram"):
        from primer.cli.numbers import of_run

        return of_run(options)
    form = element(options.format or "fp32")
    if what == "code":
        return of_number(bits.decoded(as_code(options.code, form), form), form, options)
    return of_number(as_number(arguments.values[0], form), form, options)


def of_number(x: Value, form: Element, options: Options) -> int:
    """One number: in one format, and in all of them."""
    overflow: Overflow | None = None if options.overflow == "default" else options.overflow
    if options.rounding == "stochastic" and x.kind == "number":
        from primer.cli import chances

        print(chances.as_json(x, form, overflow) if options.json else chances.in_words(x, form, overflow))
        return 0
    if options.json:
        told: dict[str, Any] = {
            "number": exact(x),
            **bits.described(x, form, options.rounding, overflow),
        }
        told["formats"] = [
            bits.described(x, each, options.rounding, overflow)
            for each in bits.ELEMENTS
            if x.kind != "nan" or each.has_nan
        ]
        print(json.dumps(told, ensure_ascii=False))
        return 0
    print(bits.one(x, form, options.rounding, overflow))
    print()
    print(bits.in_every_format(x, options.rounding, overflow, (form,)))
    return 0


def of_codes(form: Element, options: Options) -> int:
    """Every code of a format."""
    if form.bits > MOST_CODES:
        raise UsageError(
            f"{form.name} has {1 << form.bits:,} codes", "--table", f"primer float 0.1 --format={form.name}"
        )
    rows = list(bits.every_code(form))
    if options.json:
        names = ("code", "bits", "value", "kind")
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], ensure_ascii=False))
    else:
        print(bits.aligned([("code", "bits", "value", ""), *rows]))
    return 0


def of_formats(options: Options) -> int:
    """The list of formats."""
    if not options.json:
        print(bits.listing())
        print(
            "\nand any split of your own: e3m4 (IEEE's special codes), e3m4fn (no infinity), e3m4b7 (a bias of 7)"
        )
        return 0
    forms: tuple[Format, ...] = (*bits.ELEMENTS, *BLOCKS.values())
    told = [
        {"name": form.name, "bits": float(form.bits), **fields_of(form), "about": form.about}
        for form in forms
    ]
    print(json.dumps(told, ensure_ascii=False))
    return 0


def fields_of(form: Format) -> dict[str, int]:
    """The widths of a code's fields, where it has some."""
    if not isinstance(form, FloatFormat):
        return {}
    return {"exponent_bits": form.exponent_bits, "mantissa_bits": form.mantissa_bits, "bias": form.bias}
