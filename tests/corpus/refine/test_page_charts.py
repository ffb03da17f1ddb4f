"""The figures of the report's page: bins, heights and breadths are where the numbers put them."""

from primer.corpus.refine.page_charts import Scale, place, ticks_of
from primer.corpus.refine.page_flow import Flow, Frame, Gate, _river
from primer.corpus.refine.page_text import count


def test_thresholds_lie_where_their_bin_is() -> None:
    edges = [0, 1, 10, 100]
    assert [place(value, edges) for value in (-1, 0, 0.5, 1, 5.5, 100, 1e9)] == [
        0,
        0,
        1 / 6,
        1 / 3,
        0.5,
        1,
        1,
    ]
    assert place(float("nan"), edges) == 0
    assert ticks_of([10 ** (n / 4) for n in range(17)]) == [1, 10, 100, 1000, 10_000]
    assert ticks_of([0, 3, 30, 250, 2000]) == [0, 1, 10, 100, 1000]
    assert ticks_of([n / 20 for n in range(21)]) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks_of([0.013 + n / 50 for n in range(12)]) == [0.05, 0.1, 0.15, 0.2]
    assert ticks_of([1, 3, 30, 10**9]) == [1, 10, 10**3, 10**5, 10**7, 10**9]
    assert ticks_of([0, 1]) == [0, 0.2, 0.4, 0.6, 0.8, 1]


def test_heights_are_square_roots() -> None:
    scale = Scale("square root", 400)
    assert [scale(n) for n in (0, 1, 100, 400)] == [0, 0.05, 0.5, 1]
    assert Scale("logarithm", 0)(0) == 0


def test_the_river_is_as_broad_as_what_flows() -> None:
    flow = Flow("documents", count, (Gate("one", 1000, 400), Gate("two", 600, 450)), 150)
    river = _river(flow, Frame(True, 0, 0, 100, 200))
    assert river == (
        "M0.0 0.0L0.0 120.0C50.0 120.0 50.0 120.0 100.0 120.0L100.0 30.0C150.0 30.0 150.0 30.0 200.0 30.0L200.0 0.0z"
    )
