"""Pictures of verdicts: every point lies where its figure says."""

from pathlib import Path
from typing import Any

import pytest

from primer.cli import plots
from primer.errors import SurroundingsError, UsageError
from primer.experiments.experiment import Experiment, Measure, Variant
from primer.experiments.verdict import Findings, Outcome, Row

SCORE = Measure("score", "", lambda run, progress: 0.0, better="higher")


def findings(*, published: bool, seeds: int = 3) -> Findings:
    """h=4 is above the base by 1, 2 and 3 (theirs by 0.5), h=8 diverged."""
    values = {"base": [1.0, 1.0, 1.0], "h=4": [2.0, 3.0, 4.0], "h=8": [0.0, 0.0, 0.0]}
    rows = []
    for name, scores in values.items():
        outcomes = [Outcome(seed, "finished", "x", {"score": scores[seed]}) for seed in range(seeds)]
        if name == "h=8":
            outcomes[0] = Outcome(0, "diverged", "x")
        theirs = {"base": 25.0, "h=4": 25.5, "h=8": 26.0}[name]
        rows.append(
            Row(Variant(name, {}, "A", {"score": theirs} if published else {}), 1, 1, tuple(outcomes))
        )
    experiment = Experiment("x", "Why?", "dates", (SCORE,), tuple(row.variant for row in rows[1:]))
    return Findings(experiment, tuple(range(seeds)), rows[0], tuple(rows[1:]))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn; none is written."""
    figures: list[Any] = []
    monkeypatch.setattr(plots, "_written", lambda figure, file: figures.append(figure))
    return figures


def points(axes: Any) -> list[tuple[list[float], list[float]]]:
    return [([*map(float, line.get_xdata())], [*map(float, line.get_ydata())]) for line in axes.lines]


def test_dots_intervals_and_theirs(drawn: list[Any]) -> None:
    plots.save_findings(findings(published=True), "x.png")
    ours, against = drawn[0].axes
    assert [label.get_text() for label in ours.get_yticklabels()] == ["(A) h=4", "(A) h=8"]
    _, dots, interval, mean = points(ours)  # the first line is the base
    assert dots == ([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    half = 4.302653 / 3**0.5
    assert interval[0] == pytest.approx([2 - half, 2 + half], abs=1e-5)
    assert mean == ([2.0], [0.0])
    _, _, interval, point = points(against)
    assert interval[0] == [0.5, 0.5]
    assert interval[1] == pytest.approx([2 - half, 2 + half], abs=1e-5)
    assert point == ([0.5], [2.0])
    assert [text.get_text() for text in against.texts] == ["h=4"]


def test_without_figures_of_others_there_is_one_panel(drawn: list[Any]) -> None:
    plots.save_findings(findings(published=False), "x.png")
    assert len(drawn[0].axes) == 1


def test_one_seed_is_a_dot(drawn: list[Any]) -> None:
    plots.save_findings(findings(published=True, seeds=1), "x.png")
    assert points(drawn[0].axes[0])[1:] == [([1.0], [0.0]), ([1.0, 1.0], [0.0, 0.0]), ([1.0], [0.0])]


def test_it_is_known_beforehand_whether_it_can_be_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plots.require(tmp_path / "x.svg")
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        plots.require("x.jpg")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(SurroundingsError, match="matplotlib is not installed"):
        plots.require("x.png")
