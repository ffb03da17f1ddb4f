"""The numbers of a run, for `primer float --run`: one weight, a whole tensor in every format, or all exponents."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from primer.cli.table import table
from primer.floats.codec import exponent_of, value
from primer.floats.formats import BLOCKS, FORMATS, FloatFormat, element
from primer.floats.tensor import quantize

if TYPE_CHECKING:
    from primer.cli.float import Options
    from primer.lens.exponents import Exponents
    from primer.recipes.loaded import Run

SHOWN = ("fp16", "bf16", "e5m2", "e4m3", "e3m2", "e2m1")
"""Formats whose ranges are drawn under a histogram."""
WIDTH = 72
BARS = " ▁▂▃▄▅▆▇█"


def of_run(options: Options) -> int:
    """What was asked of a run."""
    from primer.recipes.numbers import number, weight
    from primer.recipes.run import load

    run = load(options.run, runs_dir=options.runs_dir)
    if options.histogram:
        return of_exponents(run, options)
    if not options.tensor:
        return of_weights(run, options)
    tensor = weight(run, options.tensor)
    if not options.index:
        return of_tensor(options.tensor, tensor.cpu(), options)
    x = value(number(tensor, options.index, options.tensor))
    from primer.cli.float import of_number

    if not options.json:
        place = ", ".join(map(str, options.index))
        print(f"{options.tensor}[{place}] of {run.path.name}\n")
    return of_number(x, element(options.format or "fp32"), options)


def of_weights(run: Run, options: Options) -> int:
    """The weights that there are."""
    rows = [(name, tuple(p.shape), float(p.detach().abs().max())) for name, p in run.model.named_parameters()]
    if options.json:
        print(json.dumps([{"tensor": name, "shape": shape, "largest": most} for name, shape, most in rows]))
        return 0
    lines = [(name, " × ".join(map(str, shape)), f"{most:.4g}") for name, shape, most in rows]
    print(table([("tensor", "shape", "largest"), *lines], right={2}))
    print(f"\none of them: primer float --run={run.directory.handle} --tensor={rows[0][0]} --index=0,0")
    return 0


def of_tensor(name: str, x: Tensor, options: Options) -> int:
    """What every format makes of a tensor, with one scale for all of it, and without."""
    told = [row_of(form, x) for form in (*FORMATS, *BLOCKS) if form not in ("fp64", "fp32", "e8m0")]
    if options.json:
        print(json.dumps({"tensor": name, "shape": list(x.shape), "formats": told}))
        return 0
    head = ("format", "noise", "become 0", "too large", "noise with a scale")
    lines = [
        tuple(
            "" if row[key] is None else row[key]
            for key in ("format", "noise", "zeros", "too_large", "scaled_noise")
        )
        for row in ({**each, **in_words(each)} for each in told)
    ]
    print(f"{name}: {' × '.join(map(str, x.shape))} numbers, the largest {float(x.abs().max()):.4g}\n")
    print(table([head, *lines], right={1, 2, 3, 4}))
    print(
        "\nnoise: √(mean (x̂ − x)² / mean x²). With a scale the largest number becomes the format's largest."
    )
    return 0


def row_of(name: str, x: Tensor) -> dict[str, Any]:
    """How far a tensor is from itself in a format."""
    blocked = name in BLOCKS
    mine = quantize(x, name)
    largest = float(FORMATS[name].largest) if not blocked else float("inf")
    return {
        "format": name,
        "noise": noise(mine, x),
        "zeros": float(((mine == 0) & (x != 0)).float().mean()),
        "too_large": None if blocked else float((x.abs() > largest).float().mean()),
        "scaled_noise": None if blocked else noise(quantize(x, name, scaling="tensor"), x),
    }


def in_words(row: Mapping[str, Any]) -> dict[str, str | None]:
    """The same for people."""
    return {
        key: None if number is None else f"{number:.3%}"
        for key, number in row.items()
        if key in ("noise", "zeros", "too_large", "scaled_noise")
    }


def noise(mine: Tensor, x: Tensor) -> float:
    """Root of the mean square error, as a part of the numbers' own."""
    squares = x.double().square().mean()
    return float(((mine - x).double().square().mean() / squares).sqrt()) if squares > 0 else 0.0


def of_exponents(run: Run, options: Options) -> int:
    """The histogram of a run's exponents."""
    from primer.recipes.numbers import exponents_of

    if options.plot:
        from primer.cli.plots import require

        require(options.plot)
    found = exponents_of(run, options.tokens)
    if options.json:
        print(json.dumps(as_values(found)))
    else:
        unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()
        print(f"exponents of {run.path.name}, of {options.tokens:,} tokens of its validation text\n")
        print(drawn(found, unicode=unicode))
        print()
        print(losses(found))
    if options.plot:
        from primer.cli.plots import save_exponents

        print(f"drawn into {save_exponents(found, SHOWN, options.plot)}", file=sys.stderr)
    return 0


def as_values(found: Mapping[str, Exponents]) -> dict[str, Any]:
    """The histogram, and what each format loses of it, as plain values."""
    return {
        name: {
            "exponents": {str(e): each.counts[e] for e in sorted(each.counts)},
            "zeros": each.zeros,
            "not_finite": each.strange,
            "formats": {form: lost(each, FORMATS[form]) for form in SHOWN},
        }
        for name, each in found.items()
    }


def drawn(found: Mapping[str, Exponents], *, unicode: bool = True) -> str:
    """A line of bars a kind of number, a column an exponent; beneath them where the formats' numbers lie."""
    low = min(min(each.counts, default=0) for each in found.values())
    high = max(max(each.counts, default=0) for each in found.values())
    low = max(low, high - 2 * WIDTH + 2)
    step = 1 + (high - low) // WIDTH
    columns = range(low, high + 1, step)
    margin = max(map(len, found)) + 2
    lines = [f"{name:<{margin}}{bars(each, columns, unicode=unicode)}" for name, each in found.items()]
    lines.append(" " * margin + axis(columns))
    normal, small = ("━", "┄") if unicode else ("=", "-")
    for name in SHOWN:
        form = FORMATS[name]
        marks = "".join(
            normal
            if form.least_exponent <= e <= form.greatest_exponent
            else small
            if reaches(form, e)
            else " "
            for e in columns
        )
        lines.append(f"{name:<{margin}}{marks}".rstrip())
    lines.append(
        f"{'':<{margin}}2^e, a column {step if step > 1 else 'an'} exponent{'s' * (step > 1)}; "
        f"{normal} normal numbers, {small} subnormal ones"
    )
    return "\n".join(lines)


def reaches(form: FloatFormat, e: int) -> bool:
    """Whether a format has a subnormal number of an exponent."""
    return exponent_of(form.smallest) <= e < form.least_exponent


def bars(each: Exponents, columns: range, *, unicode: bool) -> str:
    """A histogram on one line; what is there at all is seen."""
    shares = [each.share(e, e + columns.step) for e in columns]
    most = max(shares, default=0) or 1
    marks = BARS if unicode else " .:-=+*#@"
    return "".join(marks[0 if not share else max(1, round(share / most * 8))] for share in shares)


def axis(columns: Sequence[int]) -> str:
    """Exponents under their columns, every ten."""
    line = [" "] * (len(columns) + 6)
    for place, e in enumerate(columns):
        if e % 10 == 0 or (columns[1] - columns[0] > 1 and e % 10 == 1 and e - 1 not in columns):
            text = str(e)
            line[place : place + len(text)] = text
    return "".join(line).rstrip()


def losses(found: Mapping[str, Exponents]) -> str:
    """What each format loses of each kind of number, without a scale."""
    rows = [("without a scale", *found)]
    for name in SHOWN:
        rows.append((name, *(in_short(lost(each, FORMATS[name])) for each in found.values())))
    return table(rows)


def lost(each: Exponents, form: FloatFormat) -> dict[str, float]:
    """Which parts of the numbers become zero, are subnormal, are too large."""
    least = exponent_of(form.smallest)
    return {
        "zero": each.share(
            -(1 << 20), least - 1
        ),  # what is at least half of the smallest is rounded up to it
        "subnormal": each.share(least - 1, form.least_exponent),
        "too_large": each.share(form.greatest_exponent + 1, 1 << 20),
    }


def in_short(part: Mapping[str, float]) -> str:
    """The parts that are there."""
    words = {"zero": "to 0", "subnormal": "subnormal", "too_large": "too large"}
    told = [f"{share:.1%} {words[key]}" for key, share in part.items() if share >= 0.0005]
    return ", ".join(told) or "all fit"
