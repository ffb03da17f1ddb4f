"""The numbers of a run, for `primer float --run`: one weight, a whole tensor in every format, or all exponents."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from primer.cli.table import table
from primer.errors import UsageError
from primer.floats.codec import exponent_of, value
from primer.floats.formats import (
    BLOCKS,
    FORMATS,
    INTEGERS,
    BlockFormat,
    FloatFormat,
    Format,
    IntFormat,
    Rounding,
    element,
    named,
)
from primer.floats.tensor import quantize

if TYPE_CHECKING:
    from primer.cli.float import Options
    from primer.lens.exponents import Exponents
    from primer.recipes.loaded import Run
    from primer.recipes.numbers import Histogram

SHOWN = ("fp16", "bf16", "e5m2", "e4m3", "e3m2", "e2m1")
"""Formats whose ranges are drawn under a histogram."""
WIDTH = 72
BARS = " ▁▂▃▄▅▆▇█"


def of_run(options: Options) -> int:
    """What was asked of a run."""
    from primer.recipes.numbers import number, weight
    from primer.recipes.run import load

    form = named(options.format) if options.format else None
    if options.plot:
        from primer.cli.plots import require

        require(options.plot)
    run = load(options.run, runs_dir=options.runs_dir)
    if options.histogram:
        return of_exponents(run, options)
    if not options.tensor:
        return of_weights(run, options)
    tensor = weight(run, options.tensor)
    if not options.index:
        return of_tensor(options.tensor, tensor.cpu(), form, options)
    x = value(number(tensor, options.index, options.tensor))
    from primer.cli.float import of_number

    if not options.json:
        place = ", ".join(map(str, options.index))
        print(f"{options.tensor}[{place}] of {run.path.name}\n")
    return of_number(x, element(options.format or "fp32"), options)


def of_weights(run: Run, options: Options) -> int:
    """The weights that there are; one that has several names, under each of them."""
    from primer.recipes.numbers import weights_of

    first: dict[int, str] = {}
    rows = [
        (name, tuple(p.shape), float(p.detach().abs().max()), first.setdefault(id(p), name))
        for name, p in weights_of(run).items()
    ]
    if options.json:
        told = [
            {"tensor": name, "shape": shape, "largest": most, **({"same_as": same} if same != name else {})}
            for name, shape, most, same in rows
        ]
        print(json.dumps(told))
        return 0
    lines = [
        (name, " × ".join(map(str, shape)), f"{most:.4g}", f"the same as {same}" if same != name else "")
        for name, shape, most, same in rows
    ]
    print(table([("tensor", "shape", "largest", ""), *lines], right={2}))
    print(f"\none of them: primer float --run={run.directory.handle} --tensor={rows[0][0]} --index=0,0")
    return 0


def of_tensor(name: str, x: Tensor, form: Format | None, options: Options) -> int:
    """What every format makes of a tensor, with one scale for all of it, and without."""
    if form and not (form.element if isinstance(form, BlockFormat) else form).signed:
        raise UsageError(f"{form.name} has no sign: it is for scales", "--format", "--format=e4m3")
    forms: dict[str, Format] = {**FORMATS, **INTEGERS, **BLOCKS, **({form.name: form} if form else {})}
    left_out = {"fp64", "fp32", "e8m0"} - ({form.name} if form else set())
    told = [row_of(each, x, options.rounding) for key, each in forms.items() if key not in left_out]
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


def row_of(form: Format, x: Tensor, rounding: Rounding = "nearest") -> dict[str, Any]:
    """How far a tensor is from itself in a format."""
    mine = quantize(x, form, rounding, seed=0)
    told: dict[str, Any] = {
        "format": form.name,
        "noise": noise(mine, x),
        "zeros": float(((mine == 0) & (x != 0)).float().mean()),
        "too_large": None,
        "scaled_noise": None,
    }
    if not isinstance(form, BlockFormat):
        lowest = float(form.lowest if isinstance(form, IntFormat) else -form.largest)
        told["too_large"] = float(((x > float(form.largest)) | (x < lowest)).float().mean())
        told["scaled_noise"] = noise(quantize(x, form, rounding, scaling="tensor", seed=0), x)
    return told


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
    from primer.cli.scores import Ticker
    from primer.recipes.numbers import exponents_of

    with Ticker("histogram", "tokens") as ticker:
        found = exponents_of(run, options.tokens, ticker)
    if options.json:
        print(json.dumps(as_values(found)))
    else:
        unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()
        print(f"exponents of {run.path.name}, of {found.tokens:,} tokens of its validation text")
        print(
            f"gradients: of the mean loss over {found.batch:,} positions, a batch of the run; no loss scale\n"
        )
        print(drawn(found.of, unicode=unicode))
        print()
        print(losses(found.of))
    if options.plot:
        from primer.cli.plots import save_exponents

        print(f"drawn into {save_exponents(found.of, SHOWN, options.plot)}", file=sys.stderr)
    return 0


def as_values(found: Histogram) -> dict[str, Any]:
    """The histogram, and what each format loses of it, as plain values."""
    return {
        name: {
            "exponents": {str(e): each.counts[e] for e in sorted(each.counts)},
            "zeros": each.zeros,
            "not_finite": each.strange,
            "formats": {form: lost(each, FORMATS[form]) for form in SHOWN},
        }
        for name, each in found.of.items()
    }


def drawn(found: Mapping[str, Exponents], *, unicode: bool = True) -> str:
    """A line of bars a kind of number; beneath them where the formats' numbers lie. A column is an exponent or more."""
    low = min(min(each.counts, default=0) for each in found.values())
    high = max(max(each.counts, default=0) for each in found.values())
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
            if e + step > form.least_exponent and e <= form.greatest_exponent
            else small
            if exponent_of(form.smallest) < e + step <= form.least_exponent
            else " "
            for e in columns
        )
        lines.append(f"{name:<{margin}}{marks}".rstrip())
    lines.append(
        f"{'':<{margin}}2^e, a column {step if step > 1 else 'an'} exponent{'s' * (step > 1)}; "
        f"{normal} normal numbers, {small} subnormal ones"
    )
    return "\n".join(lines)


def bars(each: Exponents, columns: range, *, unicode: bool) -> str:
    """A histogram on one line; what is there at all is seen."""
    shares = [each.share(e, e + columns.step) for e in columns]
    most = max(shares, default=0) or 1
    marks = BARS if unicode else " .:-=+*#@"
    return "".join(marks[0 if not share else max(1, round(share / most * 8))] for share in shares)


def axis(columns: range) -> str:
    """Exponents under their columns, every ten of these."""
    line = [" "] * (len(columns) + 6)
    tick = 10 * columns.step
    for place, e in enumerate(columns):
        mark = -(-e // tick) * tick
        if mark < e + columns.step:
            text = str(mark)
            line[place : place + len(text)] = text
    return "".join(line).rstrip()


def losses(found: Mapping[str, Exponents]) -> str:
    """What each format loses of each kind of number, without a scale; and what is zero, or not finite, anyway."""
    rows = [("without a scale", *found)]
    for name in SHOWN:
        rows.append((name, *(in_short(each, FORMATS[name]) for each in found.values())))
    for what, counts in (
        ("zero anyway", [each.zeros for each in found.values()]),
        ("inf or nan", [each.strange for each in found.values()]),
    ):
        if any(counts):
            every = [each.total + each.zeros + each.strange for each in found.values()]
            rows.append((what, *(part(n, of) for n, of in zip(counts, every, strict=True))))
    return table(rows)


def lost(each: Exponents, form: FloatFormat) -> dict[str, float]:
    """Which parts of the numbers become zero, are subnormal, are larger than the largest; zeros do not count."""
    total = max(each.total, 1)
    small = each.share(-(1 << 20), form.least_exponent)
    zero = each.below.get(form.name, 0) / total
    return {"zero": zero, "subnormal": small - zero, "too_large": each.above.get(form.name, 0) / total}


def in_short(each: Exponents, form: FloatFormat) -> str:
    """The parts that are there."""
    if not each.total:
        return ""
    total = each.total
    words = {"zero": "to 0", "subnormal": "subnormal", "too_large": "too large"}
    shares = lost(each, form)
    told = [f"{part(round(shares[key] * total), total)} {words[key]}" for key in words if shares[key] > 0]
    return ", ".join(told) or "all fit"


def part(count: int, of: int) -> str:
    """A share for people: what is small is not nothing, and what is not all is not all."""
    if not count:
        return ""
    share = count / of
    if share < 0.0005:
        return "<0.1%"
    return ">99.9%" if count < of and share >= 0.9995 else f"{share:.1%}"
