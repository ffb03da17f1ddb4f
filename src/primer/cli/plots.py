"""Curves and patterns as PNG or SVG, through matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primer.assets import writing
from primer.cli.curve import Curve, bounds
from primer.errors import UsageError, missing_extra

if TYPE_CHECKING:
    from primer.recipes.translating import Looked


def attention(found: Looked, file: str | Path) -> Path:
    """Draw where a decoder looked: a panel a layer, the mean over its heads; the darker, the more."""
    path = Path(file)
    figure = _figure(
        path,
        "--attention",
        (2 + 0.32 * len(found.source), 1.5 + 0.32 * len(found.target)),
        len(found.pattern),
    )
    for number, heads in enumerate(found.pattern):
        axes = figure.add_subplot(1, len(found.pattern), number + 1)
        axes.imshow(heads.mean(0).numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(found.source)), found.source, rotation=90)
        axes.set_yticks(range(len(found.target)), found.target if number == 0 else [""] * len(found.target))
        axes.set_title(f"layer {number + 1}")
        axes.set_xlabel("source")
        if number == 0:
            axes.set_ylabel("translation")
    with writing(path):
        figure.savefig(path, dpi=150)
    return path


def _figure(path: Path, flag: str, size: tuple[float, float], panels: int = 1) -> Any:
    """An empty figure for a file whose ending says PNG or SVG."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"{flag} writes .png or .svg, got {path.name!r}", hint=f"{flag}={path.stem}.png")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("matplotlib", "plots") from None
    return Figure(figsize=(size[0] * panels, size[1]), layout="constrained")


def save(curves: Sequence[Curve], file: str | Path, title: str = "") -> Path:
    """Draw the curves into `file`; its ending says whether as PNG or as SVG."""
    path = Path(file)
    figure = _figure(path, "--plot", (8, 5))
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
