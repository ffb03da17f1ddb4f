"""Curves as PNG or SVG, through matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from primer.cli.curve import Curve
from primer.errors import UsageError, missing_extra


def save(curves: Sequence[Curve], file: str | Path) -> Path:
    """Draw the curves into `file`; its ending says whether as PNG or as SVG."""
    path = Path(file)
    if path.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"--plot writes .png or .svg, got {path.name!r}", hint=f"--plot={path.stem}.png")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("matplotlib", "plots") from None
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="steps", ylabel="loss (nats a token)")
    for curve in curves:
        faint = curve.name.endswith("training")  # every step: noise behind the evaluations
        axes.plot(
            *zip(*curve.points, strict=True),
            label=curve.name,
            lw=1 if faint else 2,
            alpha=0.5 if faint else 1,
        )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    return path
