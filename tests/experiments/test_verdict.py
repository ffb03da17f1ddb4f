"""Verdicts by hand: differences over pairs, what is said of them, and on which side they lie."""

import json
import math

import pytest

from primer.experiments.experiment import Experiment, Measure, Variant
from primer.experiments.verdict import Difference, Findings, Outcome, Row

PERPLEXITY = Measure("perplexity", "", lambda run, progress: 0.0, logarithmic=True, finer=2)
SCORE = Measure("score", "", lambda run, progress: 0.0, better="higher", finer=2)


def row(name: str, *values: float | str, published: dict[str, float] | None = None) -> Row:
    """A variant with a run a value, with seeds 5, 6 … ; a word is the status of a run without values."""
    outcomes = [
        Outcome(seed, value, "runs/x") if isinstance(value, str)  # type: ignore[arg-type]
        else Outcome(seed, "finished", "runs/x", {"perplexity": value, "score": value}, "cpu in fp32")
        for seed, value in enumerate(values, start=5)
    ]  # fmt: skip
    flags = {} if name == "base" else {"model.n_heads": 4}
    return Row(Variant(name, flags, "A", published or {}), 10, 5, tuple(outcomes))


def findings(base: Row, *rows: Row) -> Findings:
    experiment = Experiment("x", "Why?", "dates", (PERPLEXITY, SCORE), tuple(each.variant for each in rows))
    return Findings(experiment, (5, 6, 7), base, rows)


def test_a_difference_is_taken_pair_by_pair() -> None:
    """Values that scatter far more than they differ: unpaired, nothing could be seen. By hand: differences 0.9, 1.0 and
    1.1, mean 1.0, s = 0.1, and 4.3027 · 0.1 / √3 = 0.2484.
    """
    found = findings(row("base", 10.0, 20.0, 30.0), row("h=4", 10.9, 21.0, 31.1))
    difference = found.difference(found.rows[0], SCORE)
    assert difference is not None
    assert difference.by_seed == pytest.approx({5: 0.9, 6: 1.0, 7: 1.1})
    assert difference.interval == pytest.approx((1 - 0.24842, 1 + 0.24842), abs=1e-5)
    assert str(difference) == "better by 1.00 (0.75 … 1.25)"
    assert difference.sign == 1


def test_of_perplexities_the_logarithms_are_compared() -> None:
    """All three about 10 % higher: ln 1.1 = 0.0953, and little scatter, although the differences are 1, 2 and 3."""
    found = findings(row("base", 10.0, 20.0, 30.0), row("h=4", 11.0, 22.0, 33.001))
    difference = found.difference(found.rows[0], PERPLEXITY)
    assert difference is not None
    assert difference.mean == pytest.approx(math.log(1.1), abs=2e-4)
    assert str(difference) == "worse by 0.10 (0.10 … 0.10)"
    assert found.base.mean(PERPLEXITY) == pytest.approx((10 * 20 * 30) ** (1 / 3))
    assert found.base.mean(SCORE) == pytest.approx(20)


@pytest.mark.parametrize(
    ("by_seed", "measure", "said", "sign"),
    [
        ({1: 0.12, 2: 0.14}, SCORE, "better by 0.13 (0.00 … 0.26)", 1),
        ({1: -0.12, 2: -0.14}, SCORE, "worse by 0.13 (0.00 … 0.26)", -1),
        ({1: -0.12, 2: -0.14}, PERPLEXITY, "better by 0.13 (0.00 … 0.26)", -1),
        ({1: 0.10, 2: 0.14}, SCORE, "no difference that 2 seeds can show (-0.13 … +0.37)", 0),
        ({1: 0.0, 2: 0.0, 3: 0.0}, SCORE, "equal with each of 3 seeds", None),
        ({1: 0.0}, SCORE, "equal with one seed", None),
        # Each one pair of 500 worse: no scatter, and yet no certainty.
        ({1: 0.49 - 0.51, 2: 0.5 - 0.52}, SCORE, "worse by 0.02 with each of 2 seeds: no interval", None),
        ({1: 0.25}, PERPLEXITY, "worse by 0.25 with one seed: no interval", None),
    ],
)
def test_in_words(by_seed: dict[int, float], measure: Measure, said: str, sign: int | None) -> None:
    """With two pairs the half width is 12.706 · |a − b| / 2."""
    difference = Difference(measure, by_seed)
    assert (str(difference), difference.sign) == (said, sign)


def test_only_seeds_that_both_have_are_compared() -> None:
    found = findings(row("base", 1.0, "missing", 3.0), row("h=4", 1.5, 9.0, 3.5))
    difference = found.difference(found.rows[0], SCORE)
    assert difference is not None
    assert difference.by_seed == {5: 0.5, 7: 0.5}
    nothing = findings(row("base", "missing", 1.0), row("h=4", 1.0, "missing"))
    assert nothing.difference(nothing.rows[0], SCORE) is None
    assert nothing.verdict(nothing.rows[0], SCORE) == "not trained yet"


def test_a_run_that_diverged_is_the_verdict() -> None:
    """What the other seeds say is no longer a fair sample, on whichever side it happened."""
    found = findings(row("base", 1.0, 2.0, 3.0), row("h=4", 1.5, "diverged", 3.5))
    assert found.difference(found.rows[0], SCORE) is None
    assert found.verdict(found.rows[0], SCORE) == "diverged with 1 of 3 seeds"
    found = findings(row("base", "diverged", "diverged", 3.0), row("h=4", 1.0, 2.0, 3.0))
    assert found.difference(found.rows[0], SCORE) is None
    assert found.verdict(found.rows[0], SCORE) == "the base diverged with 2 of 3 seeds"


@pytest.mark.parametrize(
    ("values", "theirs", "agrees"),
    [
        ((2.0, 3.0, 4.1), 26.0, True),
        ((2.0, 3.0, 4.1), 25.0, False),
        ((0.5, 1.5, 2.4), 25.0, True),
        ((0.5, 2.5, 3.5), 26.0, None),  # both sides are in our interval
        ((2.0, 3.0, 4.1), 25.8, None),  # theirs has no side
    ],
)
def test_whether_it_lies_on_the_side_where_others_found_it(
    values: tuple[float, ...], theirs: float, agrees: bool | None
) -> None:
    base = row("base", 1.0, 2.0, 3.0, published={"score": 25.8})
    found = findings(base, row("h=4", *values, published={"score": theirs}))
    assert found.agrees(found.rows[0], SCORE) is agrees
    assert found.published(found.rows[0], SCORE) == pytest.approx(theirs - 25.8)
    assert found.agrees(found.rows[0], PERPLEXITY) is None, "nothing was printed of this one"


def test_one_seed_agrees_with_nobody() -> None:
    found = findings(row("base", 1.0, published={"score": 1.0}), row("h=4", 2.0, published={"score": 2.0}))
    assert found.agrees(found.rows[0], SCORE) is None


def test_findings_are_json() -> None:
    base = row("base", 1.0, 2.0, 4.0, published={"score": 25.8})
    found = findings(
        base, row("h=4", 1.5, 2.5, 4.5, published={"score": 26.0}), row("h=8", "diverged", 1.0, 1.0)
    )
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (plain["experiment"], plain["question"], plain["seeds"]) == ("x", "Why?", [5, 6, 7])
    one, other = plain["variants"]
    assert one["differences"]["score"] == {
        "mean": 0.5,
        "interval": None,
        "by_seed": {"5": 0.5, "6": 0.5, "7": 0.5},
        "verdict": "better by 0.50 with each of 3 seeds: no interval",
        "published": 0.2,
        "agrees": None,
    }
    assert one["runs"][1] == {
        "seed": 6,
        "status": "finished",
        "path": "runs/x",
        "values": {"perplexity": 2.5, "score": 2.5},
        "computed": "cpu in fp32",
    }
    assert other["differences"]["score"]["mean"] is None
    assert other["runs"][0]["status"] == "diverged"
