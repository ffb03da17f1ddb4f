import math
import random
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer.cli.curve import Curve, draw
from primer.errors import SurroundingsError, UsageError


def ink(picture: str) -> list[tuple[int, int]]:
    """(column, row) of every character that belongs to a curve, the axes taken off."""
    rows = [line for line in picture.splitlines() if "│" in line or "┤" in line]
    cells = [line.split("┤" if "┤" in line else "│", 1)[1] for line in rows]
    return [(x, y) for y, line in enumerate(cells) for x, mark in enumerate(line) if mark != " "]


def test_a_falling_line_falls() -> None:
    picture = draw([Curve("loss", [(float(x), 10.0 - x) for x in range(11)])], width=40, height=13)
    marks = ink(picture)
    lowest = {x: max(row for column, row in marks if column == x) for x, _ in marks}
    assert sorted(lowest) == list(range(len(lowest))), "the line has no gaps"
    assert [lowest[x] for x in sorted(lowest)] == sorted(lowest.values())
    assert (min(lowest.values()), max(lowest.values())) == (0, 9)
    lines = picture.splitlines()
    assert lines[0].startswith("9.00 ┤")  # above what comes after the first twentieth, the plot is cut
    assert lines[9].startswith("0.00 ┤")
    assert lines[-2].split() == ["0", "5", "10", "steps"]
    assert max(map(len, lines)) <= 40


def test_without_unicode_it_is_ascii() -> None:
    curves = [Curve("a", [(0.0, 1.0), (9.0, 2.0)]), Curve("b", [(0.0, 2.0), (9.0, 1.0)])]
    picture = draw(curves, unicode=False)
    assert picture.isascii()
    assert "* a   o b" in picture
    assert picture.count("*") > 10
    assert picture.count("o") > 10


def test_several_curves_can_be_told_apart() -> None:
    curves = [Curve("a", [(0.0, 1.0), (9.0, 2.0)]), Curve("b", [(0.0, 2.0), (9.0, 1.0)])]
    plain, coloured = draw(curves), draw(curves, colour=True)
    assert "\x1b" not in plain
    assert "* a   o b" in plain
    assert "\x1b[36m━━\x1b[0m a   \x1b[33m━━\x1b[0m b" in coloured


def test_noise_is_averaged_within_a_column() -> None:
    random.seed(0)
    noisy = [(float(x), 1 + 9 * (x < 5_000) + random.gauss(0, 1)) for x in range(10_000)]
    rows = {y for x, y in ink(draw([Curve("loss", noisy)], width=60, height=23)) if x > 40}
    assert len(rows) <= 3, "five thousand noisy points on one level are one line"


@given(
    st.lists(
        st.tuples(st.floats(0, 1e6), st.floats(allow_nan=True, allow_infinity=True, width=32)), max_size=30
    ),
    st.integers(1, 120),
    st.integers(1, 40),
)
def test_nothing_breaks_it(points: list, width: int, height: int) -> None:
    picture = draw([Curve("loss", points)], width=width, height=height)
    assert bool(picture) == any(math.isfinite(y) for _, y in points)


def test_matplotlib_draws_every_curve(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    from primer.cli.plots import save

    curves = [Curve("one training", [(0.0, 2.0), (1.0, 1.0)]), Curve("one validation", [(1.0, 1.5)])]
    svg = save(curves, tmp_path / "a.svg").read_text()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "<!-- one training -->" in svg
    assert "<!-- one validation -->" in svg
    assert save(curves, tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        save(curves, tmp_path / "a.pdf")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch) -> None:
    import sys

    from primer.cli.plots import save

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SurroundingsError) as caught:
        save([Curve("a", [(0.0, 1.0)])], tmp_path / "a.png")
    assert caught.value.hint == 'python -m pip install "gpt-primer[plots]"'
