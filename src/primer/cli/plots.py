"""Curves, patterns, and the verdicts of experiments, as PNG or SVG through matplotlib."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primer.assets import writing
from primer.cli.curve import Curve, bounds
from primer.errors import UsageError, missing_extra
from primer.evals.interval import Estimate, mean
from primer.floats.codec import exponent_of
from primer.floats.formats import FORMATS
from primer.recipes.directory import RunDirectory

if TYPE_CHECKING:
    from primer.experiments.calculation import Calculated, Key
    from primer.experiments.experiment import Measure
    from primer.experiments.verdict import Findings, Row
    from primer.lens.exponents import Exponents
    from primer.recipes.translating import Looked


def require(file: str | Path, flag: str = "--plot") -> None:
    """UsageError for a file that no picture can be drawn into, SurroundingsError without matplotlib.

    To be called before what the picture shows is computed: rather said now than in some hours.
    """
    path = Path(file)
    if path.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"{flag} writes .png or .svg, got {path.name!r}", hint=f"{flag}={path.stem}.png")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise missing_extra("matplotlib", "plots") from None
    if not path.parent.is_dir():
        raise UsageError(
            f"{flag}: there is no folder {str(path.parent)!r}",
            str(file),
            f"mkdir -p {path.parent}, or another folder",
        )
    if path.is_dir():
        raise UsageError(f"{flag}: this is a folder", str(file), f"{flag}={path / 'picture'}{path.suffix}")


def save(curves: Sequence[Curve], file: str | Path, title: str = "") -> Path:
    """Draw the curves into `file`; its ending says whether as PNG or as SVG."""
    figure = _figure(file, 8, 5)
    axes = figure.add_subplot(xlabel="steps", ylabel="loss (nats a token)", title=title)
    for curve in curves:
        faint = curve.name.endswith("training")  # every step: noise behind the evaluations
        axes.plot(
            *zip(*curve.points, strict=True),
            label=curve.name,
            lw=1 if faint else 2,
            alpha=0.5 if faint else 1,
            marker="o" if len(curve.points) < 20 else None,  # a line needs two points to be seen
        )
    low, high = bounds(curves)
    axes.set_ylim(low - (high - low) / 20, high + (high - low) / 20)
    axes.grid(alpha=0.3)
    axes.legend()
    return _written(figure, file)


def attention(found: Looked, file: str | Path) -> Path:
    """Draw where a decoder looked: a panel a layer, the mean over its heads; the darker, the more."""
    layers, heights = len(found.pattern), 1.5 + 0.32 * len(found.target)
    figure = _figure(file, layers * (2 + 0.32 * len(found.source)), heights)
    for number, heads in enumerate(found.pattern):
        axes = figure.add_subplot(1, layers, number + 1, title=f"layer {number + 1}", xlabel="source")
        axes.imshow(heads.mean(0).numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(found.source)), found.source, rotation=90)
        axes.set_yticks(range(len(found.target)), found.target if number == 0 else [""] * len(found.target))
        if number == 0:
            axes.set_ylabel("translation")
    return _written(figure, file)


def save_exponents(found: Mapping[str, Exponents], formats: Sequence[str], file: str | Path) -> Path:
    """Draw histograms of exponents, one above the other, over the ranges of some formats."""
    figure = _figure(file, 9, 7)
    panels = figure.subplots(len(found) + 1, 1, sharex=True, height_ratios=[2] * len(found) + [1.4])
    for axes, (name, each) in zip(panels, found.items(), strict=False):
        shares = {e: n / max(each.total, 1) for e, n in each.counts.items()}
        axes.bar(list(shares), list(shares.values()), width=1, align="edge", color="C0")
        axes.set_ylabel(name.replace(" of ", "\nof "), rotation=0, ha="right", va="center")
        axes.set_yticks([])
    axes = panels[-1]
    for place, name in enumerate(formats):
        form = FORMATS[name]
        least = exponent_of(form.smallest)
        axes.barh(
            place, form.greatest_exponent + 1 - form.least_exponent, left=form.least_exponent, color="C2"
        )
        axes.barh(place, form.least_exponent - least, left=least, color="C2", alpha=0.35)
    axes.set_yticks(range(len(formats)), formats)
    axes.invert_yaxis()
    low = min(min(each.counts, default=0) for each in found.values())
    high = max(max(each.counts, default=0) for each in found.values())
    axes.set_xlim(max(low, high - 100) - 1, high + 2)
    axes.set_xlabel("exponent e: numbers from 2^e to 2^(e+1); pale: subnormal")
    return _written(figure, file)


def save_calculated(found: Calculated, file: str | Path) -> Path:
    """Draw a calculation: a row of panels a quantity, a line for each format or the like, its interval as a band.

    Dotted: what theory expects; thin: what it allows at worst.
    """
    calculation, picture = found.calculation, found.calculation.picture
    theory = {name for names in (calculation.predicted or {}).values() for name in names}
    drawn = [each for each in calculation.quantities if each.name not in theory]
    panels = list(dict.fromkeys(_part(found, row, picture.panels) for row in found.rows))
    names = list(dict.fromkeys(_part(found, row, picture.lines) for row in found.rows))
    figure = _figure(file, 2 + 4 * len(panels), 4 * len(drawn))
    grid = figure.subplots(len(drawn), len(panels), squeeze=False, sharex=True, sharey="row")
    for line, quantity in zip(grid, drawn, strict=True):
        for axes, panel in zip(line, panels, strict=True):
            for name in names:
                rows = [
                    row
                    for row in found.rows
                    if (_part(found, row, picture.panels), _part(found, row, picture.lines)) == (panel, name)
                ]
                _draw_line(axes, found, rows, quantity.name, str(name), f"C{names.index(name)}")
            axes.set_xscale("log")
            axes.set_yscale("linear" if quantity.percent else "log")
            axes.set_xlabel(picture.across)
            axes.set_title(str(panel), fontsize=10)
            axes.grid(alpha=0.3)
        line[0].set_ylabel(_wrapped(quantity.about), fontsize=8)
    handles, labels = grid[-1][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    return _written(figure, file)


def _part(found: Calculated, row: Key, key: str) -> str | int | float:
    """Of a row the part that a key names; nothing for no key."""
    return row[found.calculation.keys.index(key)] if key else ""


def _draw_line(axes: Any, found: Calculated, rows: Sequence[Key], name: str, label: str, colour: str) -> None:
    """One line with its interval, and what theory says of it."""
    across = found.calculation.picture.across
    points = [(_part(found, row, across), each) for row in rows if (each := found.estimate(row, name))]
    if not points:
        return
    x = [point for point, _ in points]
    axes.plot(x, [each.value for _, each in points], marker=".", label=label, color=colour)
    axes.fill_between(
        x, [e.low for _, e in points], [e.high for _, e in points], color=colour, alpha=0.15, lw=0
    )
    theories = (found.calculation.predicted or {}).get(name, ())
    for theory, style in zip(theories, (":", "-"), strict=False):
        told = [
            (_part(found, row, across), each.value) for row in rows if (each := found.estimate(row, theory))
        ]
        if told:
            axes.plot(*zip(*told, strict=True), ls=style, lw=0.7, color=colour)


def _wrapped(text: str) -> str:
    """In lines that fit beside a panel."""
    return "\n".join(textwrap.wrap(text, 44))


def save_findings(found: Findings, file: str | Path) -> Path:
    """Draw an experiment into `file`, two panels a measure: differences, and ours against theirs."""
    measures = found.experiment.measures
    beside = any(found.published(row, measure) is not None for row in found.rows for measure in measures)
    height = 1.5 + 0.28 * len(found.rows)
    figure = _figure(file, 12 if beside else 7, max(4, height) * len(measures))
    panels = figure.subplots(len(measures), 2 if beside else 1, squeeze=False)
    for line, measure in zip(panels, measures, strict=True):
        _draw_differences(line[0], found, measure)
        if beside:
            _draw_against_theirs(line[1], found, measure)
    return _written(figure, file)


def save_progress(found: Findings, file: str | Path) -> Path:
    """Draw the validation loss over the steps, and how far it lies from the base's with the same seed.

    Of each variant the mean over its seeds, and its 95 % interval. What a seed brings by chance cancels in differences.
    """
    figure = _figure(file, 13, 5.5)
    left, right = figure.subplots(1, 2)
    figure.suptitle(found.experiment.question, fontsize=10)
    base = _losses(found.base)
    for number, row in enumerate((found.base, *found.rows)):
        losses = _losses(row)
        pairs = [
            {step: mine[step] - theirs[step] for step in mine if step in theirs}
            for mine, theirs in zip(losses, base, strict=False)
        ]
        ended = f" (diverged with {row.diverged} of {len(row.outcomes)})" if row.diverged else ""
        look = {"color": f"C{number % 10}", "ls": ("-", "--", ":")[number // 10 % 3]}
        for axes, curves in ((left, losses), (right, pairs)):
            points = _over_seeds(curves)
            steps = [step for step, _ in points]
            axes.plot(
                steps, [each.value for _, each in points], label=row.variant.name + ended, lw=1.3, **look
            )
            low, high = [each.low for _, each in points], [each.high for _, each in points]
            axes.fill_between(steps, low, high, color=look["color"], alpha=0.1, lw=0)
    left.set_ylabel("validation loss (nats a token)")
    right.set_ylabel("against the base with the same seed")
    for axes in (left, right):
        axes.set_xlabel("steps")
        axes.grid(alpha=0.3)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return _written(figure, file)


def _losses(row: Row) -> list[dict[int, float]]:
    """The validation losses of a variant's runs, by step."""
    runs = [RunDirectory(Path(each.path)) for each in row.outcomes if each.path]
    return [
        {
            line["step"]: line["val_loss"]
            for line in run.metrics.rows()
            if math.isfinite(line.get("val_loss", math.nan))
        }
        for run in runs
    ]


def _over_seeds(curves: Sequence[Mapping[int, float]]) -> list[tuple[int, Estimate]]:
    """By step the mean of the values that all of some runs have there."""
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    values = [[each[step] for each in curves] for step in steps]
    return [
        (step, mean(each) if len(each) > 1 else Estimate(each[0], each[0], each[0]))
        for step, each in zip(steps, values, strict=True)
    ]


def _draw_differences(axes: Any, found: Findings, measure: Measure) -> None:
    """A line a variant: a dot a pair of runs, their mean, and its interval."""
    axes.axvline(0, color="black", lw=1)
    for place, row in enumerate(found.rows):
        difference = found.difference(row, measure)
        if difference is None:
            continue
        axes.plot(
            list(difference.by_seed.values()), [place] * len(difference.by_seed), "o", color="C0", alpha=0.4
        )
        low, high = difference.interval or (difference.mean, difference.mean)
        axes.plot([low, high], [place, place], color="C0", lw=2)
        axes.plot(difference.mean, place, "|", color="C0", ms=12, mew=2)
    names = [f"({v.row}) {v.name}" if v.row else v.name for v in (row.variant for row in found.rows)]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(f"{_label(measure)}, variant − base, {len(found.seeds)} seeds")
    axes.grid(alpha=0.3, axis="x")


def _draw_against_theirs(axes: Any, found: Findings, measure: Measure) -> None:
    """A point a variant: their difference across, ours up, with its interval."""
    axes.axhline(0, color="black", lw=1)
    axes.axvline(0, color="black", lw=1)
    for row in found.rows:
        difference, theirs = found.difference(row, measure), found.published(row, measure)
        if difference is None or theirs is None:
            continue
        low, high = difference.interval or (difference.mean, difference.mean)
        axes.plot([theirs, theirs], [low, high], color="C0", alpha=0.5)
        axes.plot(theirs, difference.mean, "o", color="C0")
        axes.annotate(
            row.variant.name, (theirs, difference.mean), xytext=(4, 3), textcoords="offset points", size=8
        )
    axes.margins(x=0.15)
    axes.set_xlabel(f"theirs: {found.experiment.published_by}")
    axes.set_ylabel(f"ours: {_label(measure)}, variant − base")
    axes.grid(alpha=0.3)


def _label(measure: Measure) -> str:
    return f"log {measure.name}" if measure.logarithmic else measure.name


def _figure(file: str | Path, width: float, height: float) -> Any:
    require(file)
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _written(figure: Any, file: str | Path) -> Path:
    with writing(Path(file)):
        figure.savefig(file, dpi=150)
    return Path(file)
