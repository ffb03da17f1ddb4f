"""Curves as PNG or SVG, through matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from primer.assets import writing
from primer.cli.curve import Curve, bounds
from primer.errors import UsageError, missing_extra


def save(curves: Sequence[Curve], file: str | Path, title: str = "") -> Path:
    """Draw the curves into `file`; its ending says whether as PNG or as SVG."""
    path = Path(file)
    if path.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"--plot writes .png or .svg, got {path.name!r}", hint=f"--plot={path.stem}.png")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("matplotlib", "plots") from None
    figure = Figure(figsize=(8, 5), layout="constrained")
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
    with writing(path):
        figure.savefig(path, dpi=150)
    return path
