"""An experiment in so many minutes."""

import time
from pathlib import Path

import pytest

from primer.errors import UsageError
from primer.experiments import budget
from primer.experiments.budget import within
from primer.experiments.number_formats import SMALL_UPDATES
from primer.recipes.report import Silence
from setups import TINY

FLAGS = {
    **TINY,
    "train.steps": 20,
    "train.evaluate_every": 10,
    "train.sample_every": 0,
    "train.checkpoint_every": 20,
}


def test_an_answer_in_time_has_the_seeds_that_were_asked_for(text_file: Path, tmp_path: Path) -> None:
    variants = SMALL_UPDATES.chosen("nearest")
    started = time.monotonic()
    found = within(
        SMALL_UPDATES,
        variants,
        {**FLAGS, "data.source": str(text_file)},
        0.5,
        seeds=2,
        runs_dir=tmp_path,
        reporter=Silence(),
    )
    assert time.monotonic() - started < 60
    assert len(found.seeds) == 2
    assert all(each.status == "finished" for row in (found.base, *found.rows) for each in row.outcomes)
    assert found.difference(found.rows[0], SMALL_UPDATES.measures[0]) is not None


def test_without_a_number_there_are_as_many_seeds_as_fit(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a round number of steps, so that the same command finds its runs again, however fast the machine is then."""
    monkeypatch.setattr(budget, "MOST", 4)
    flags, variants = {**FLAGS, "data.source": str(text_file)}, SMALL_UPDATES.chosen("nearest")
    found = within(SMALL_UPDATES, variants, flags, 2, runs_dir=tmp_path)
    assert len(found.seeds) == 4
    runs = sorted(tmp_path.glob("why-*/*"))
    assert len(runs) == 8
    within(SMALL_UPDATES, variants, flags, 2.1, runs_dir=tmp_path)
    assert sorted(tmp_path.glob("why-*/*")) == runs


@pytest.mark.parametrize(
    ("seconds", "steps", "rounds"),
    [(1000, 600, 3), (500, 500, 3), (130, 100, 3), (60, 60, 3), (45, 60, 2), (25, 70, 1), (7, 0, 0)],
)
def test_steps_are_a_round_number_that_fits(seconds: float, steps: int, rounds: int) -> None:
    rates, beside = [0.1, 0.15], 1.0
    assert budget.fitting(rates, beside, seconds, 3, 600) == (steps, rounds)
    if rounds:
        assert rounds * budget.seconds_of_a_round(rates, beside, steps) <= seconds


def test_too_little_time_is_said_before_anything_is_trained(text_file: Path, tmp_path: Path) -> None:
    flags = {**FLAGS, "data.source": str(text_file)}
    with pytest.raises(UsageError, match="trainings of 20 steps take about") as caught:
        within(SMALL_UPDATES, SMALL_UPDATES.chosen(""), flags, 0.01, seeds=2, runs_dir=tmp_path)
    assert "--minutes=" in (caught.value.hint or "")
    assert not list(tmp_path.glob("why-*/*"))
