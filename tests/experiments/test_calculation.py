"""Questions that arithmetic answers."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from primer.cli.calculated import in_columns
from primer.cli.main import main
from primer.errors import UsageError
from primer.experiments import arithmetic
from primer.experiments.calculation import (
    Calculated,
    Calculation,
    Picture,
    Quantity,
    Values,
    calculate,
    only,
    planned,
)

NOISY = Calculation(
    name="noisy",
    question="How far?",
    keys=("way", "steps"),
    quantities=(Quantity("error", "how far"), Quantity("lost", "how many", percent=True)),
    parts=(("short", "long"), (1, 1000)),
    of=lambda seed: noisy(seed),
    picture=Picture("steps", "way"),
    seconds=0.3,
)


def noisy(seed: int) -> Values:
    chance = np.random.default_rng(seed)
    return {
        (way, steps): {"error": float(size + chance.normal()), "lost": math.inf if way == "long" else 0.25}
        for way, size in (("short", 10), ("long", 20))
        for steps in (1, 1000)
    }


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of 2,000 intervals at 95 %, between 93.3 % and 96.6 % do (3.5 standard deviations of the binomial)."""
    inside = 0
    for first in range(2000):
        runs = tuple(noisy(10 * first + seed) for seed in range(4))
        found = Calculated(NOISY, (0, 1, 2, 3), runs).estimate(("short", 1), "error")
        assert found is not None
        inside += found.low <= 10 <= found.high
    assert 1866 <= inside <= 1932


def test_rows_are_told_in_columns() -> None:
    found = calculate(NOISY, 3)
    text = in_columns(found)
    assert "steps 1,000" in text
    assert "25%" in text
    assert "infinite" in text
    assert found.estimate(("long", 1), "lost") is None
    told = found.to_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["rows"][2]["lost"] == {"mean": None, "interval": None, "by_seed": ["inf"] * 3}


def test_time_ends_it_but_not_before_there_is_an_interval() -> None:
    assert len(calculate(NOISY, 5).seeds) == 5
    assert len(calculate(NOISY, 5, minutes=1e-9).seeds) == 2
    with pytest.raises(UsageError, match="at least 1"):
        calculate(NOISY, 0)


def test_rows_are_chosen_by_their_parts() -> None:
    found = calculate(NOISY, 2)
    assert only(found, NOISY.chosen("long")).rows == [("long", 1), ("long", 1000)]
    assert only(found, NOISY.chosen("")) is found
    with pytest.raises(UsageError, match="noisy has no 'lnog'") as caught:
        NOISY.chosen("short, lnog")
    assert caught.value.hint == "--variants=long"


@pytest.mark.parametrize("calculation", arithmetic.CALCULATIONS, ids=lambda each: each.name)
def test_rows_have_the_parts_that_they_say(calculation: Calculation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones of each, whose sizes alone are other ones."""
    for name, sizes in (("TERMS", (10,)), ("SPREADS", (1,)), ("WIDTHS", (32,)), ("ROWS", 2), ("LENGTH", 8)):
        monkeypatch.setattr(arithmetic, name, sizes)
    rows = list(calculation.of(0))
    for place, parts in enumerate(calculation.parts[:-1]):
        assert list(dict.fromkeys(row[place] for row in rows)) == list(parts)


def test_products_are_as_wrong_as_theory_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 512 terms 2.9e-4 in tf32, 2.4e-3 in bf16, .038 in E4M3, .075 in E5M2."""
    monkeypatch.setattr(arithmetic, "WIDTHS", (512,))
    found = calculate(arithmetic.PRODUCTS, 2)
    expected = {"fp32": 2.4e-7, "tf32": 2.9e-4, "bf16": 2.4e-3, "e4m3": 3.8e-2, "e5m2": 7.5e-2}
    for name, size in expected.items():
        row = (name, 512)
        error, bound = found.estimate(row, "error"), found.estimate(row, "bound")
        assert error is not None
        assert bound is not None
        assert error.value == pytest.approx(size, rel=0.05)
        assert error.value < bound.value
        predicted = found.estimate(row, "predicted")
        assert name == "fp32" or (predicted and error.value == pytest.approx(predicted.value, rel=0.03))


def test_sums_stop_and_softmax_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "TERMS", (100, 10_000))
    monkeypatch.setattr(arithmetic, "SPREADS", (1, 30))
    monkeypatch.setattr(arithmetic, "ROWS", 8)
    monkeypatch.setattr(arithmetic, "LENGTH", 24)
    sums = arithmetic.sums(0)
    assert sums["naive", "bf16", 10_000]["error"] > 0.9
    assert sums["pairwise", "bf16", 10_000]["error"] < 0.01
    assert sums["naive", "fp32", 10_000]["error"] < 1e-5
    soft = arithmetic.softmaxes(0)
    assert soft["formula", "fp16", 30]["broken"] == 1
    assert soft["shifted", "fp16", 30]["broken"] == soft["online", "fp16", 30]["broken"] == 0
    assert soft["online", "fp16", 1]["error"] < 0.1


def test_a_calculation_as_a_person_asks_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "WIDTHS", (32, 64))
    picture = tmp_path / "products.svg"
    assert main(["why", "products", "--seeds=2", "--variants=bf16,e4m3", f"--plot={picture}"]) == 0
    out, _ = capsys.readouterr()
    assert "terms 64" in out
    assert "mxfp4" not in out
    assert picture.stat().st_size > 1000
    assert main(["why", "products", "--seeds=2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["calculation"] == "products"
    assert len(told["rows"]) == 18


@pytest.mark.parametrize(
    ("seeds", "minutes", "expected"), [(5, 0, 5), (5, 0.02, 4), (5, 1, 5), (5, 0.001, 2), (1, 0.001, 1)]
)
def test_a_plan_is_what_a_calculation_does(
    seeds: int, minutes: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock on which each seed takes what is said of it."""
    clock = [0.0]

    def of(seed: int) -> Values:
        clock[0] += NOISY.seconds
        return noisy(seed)

    monkeypatch.setattr("primer.experiments.calculation.time.monotonic", lambda: clock[0])
    assert planned(NOISY, seeds, minutes)["seeds"] == expected
    assert len(calculate(replace(NOISY, of=of), seeds, minutes=minutes).seeds) == expected
