"""Figures of runs against `statistics`, from rows as training and accidents leave them."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from primer.cli.main import main
from primer.cli.runs import all_curves, figures, is_number, loss
from primer.config import to_toml
from primer.recipes.loaded import Run
from primer.recipes.resolve import resolve
from primer.recipes.run import load


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """A run with these rows of metrics, without any training."""

    def maker(name: str, rows: list[dict[str, Any]]) -> Run:
        path = tmp_path / "runs" / f"2026-01-01-lecture-{name}"
        path.mkdir(parents=True)
        config = resolve("lecture", flags={"model.vocab_size": 65, "train.steps": 100}).config
        (path / "config.toml").write_text(to_toml(config), encoding="utf-8")
        facts = {
            "data": {"path": "", "fingerprint": ""},
            "status": "finished",
            "started": f"2026-01-01T00:00:00+00:00 {name}",
        }
        (path / "run.json").write_text(json.dumps(facts), encoding="utf-8")
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return load(path)

    return maker


ROWS: list[dict[str, Any]] = [
    *(
        {"step": step, "loss": 4 - step / 30, "tokens_per_second": 100.0 * (step % 7)}
        for step in range(1, 41)
    ),
    {"step": 20, "val_loss": 2.5},
    {"step": 40, "val_loss": 2.75},
    {"step": 41, "loss": "nan", "tokens_per_second": "inf", "event": "not finite: step not applied"},
]


def test_a_run_in_one_line(make: Any) -> None:
    name, recipe, step, mean, last, best, speed = figures(make("aaaaaa", ROWS), ROWS)
    losses = [row["loss"] for row in ROWS if isinstance(row.get("loss"), float)]
    assert (name, recipe, step) == ("2026-01-01-lecture-aaaaaa", "lecture", "41/100")
    assert mean == f"{statistics.fmean(losses[-20:]):.4f}"
    assert (last, best) == ("2.7500", "2.5000")
    speeds = [row["tokens_per_second"] for row in ROWS if isinstance(row.get("tokens_per_second"), float)]
    assert speed == f"{statistics.median_high(speeds):,.0f}"


def test_a_run_that_never_took_a_step_has_dashes(make: Any) -> None:
    assert figures(make("aaaaaa", []), [])[2:] == ("0/100", "-", "-", "-", "-")
    assert all_curves([make("bbbbbb", [])], [[]]) == []


def test_curves_leave_out_what_is_no_number(make: Any) -> None:
    run = make("aaaaaa", ROWS)
    training, validation = all_curves([run], [ROWS])
    assert (training.name, validation.name) == ("training", "validation")
    assert list(training.points) == [(float(step), 4 - step / 30) for step in range(1, 41)]
    assert list(validation.points) == [(20.0, 2.5), (40.0, 2.75)]


def test_of_several_runs_the_same_curve_is_laid_over_each_other(make: Any) -> None:
    runs = [make("aaaaaa", ROWS), make("bbbbbb", ROWS)]
    both = all_curves(runs, [ROWS, ROWS])
    assert [curve.name for curve in both] == [f"{run.path.name} validation" for run in runs]
    young = all_curves(runs, [ROWS, ROWS[:30]])
    assert [curve.name for curve in young] == [f"{run.path.name} training" for run in runs]
    assert [len(curve.points) for curve in young] == [40, 30]


@pytest.mark.parametrize("value", [None, "nan", "inf", float("nan"), float("-inf"), [], {}])
def test_what_is_no_number(value: object) -> None:
    assert not is_number(value)
    assert loss(value) == "-"  # type: ignore[arg-type]


def test_runs_of_every_kind_are_listed_shown_and_compared(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = f"--runs-dir={tmp_path / 'runs'}"
    make("aaaaaa", ROWS)
    make("bbbbbb", [])
    make("cccccc", ROWS)
    (tmp_path / "runs" / "2026-01-01-lecture-cccccc" / "config.toml").write_bytes(b"\xff")
    assert main(["runs", "list", "--json", folder]) == 0
    listed = {one["id"]: one for one in json.loads(capsys.readouterr().out)}
    assert {name: one["status"] for name, one in listed.items()} == {
        "aaaaaa": "finished",
        "bbbbbb": "finished",
        "cccccc": "damaged",
    }
    assert listed["aaaaaa"]["val_loss"] == 2.5
    assert main(["runs", "show", "aaaaaa", "--json", folder]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["metrics"] == ROWS
    assert main(["runs", "compare", "aaaaaa", "bbbbbb", folder]) == 0
    said = capsys.readouterr().out
    assert "2026-01-01-lecture-aaaaaa" in said
    assert "2026-01-01-lecture-bbbbbb" in said
    assert main(["runs", "show", "cccccc", folder]) == 4
    assert "config.toml" in capsys.readouterr().err
    assert main(["runs", "rm", "aaaaaa", "aaaaaa", "--yes", folder]) == 0
    assert sorted(path.name[-6:] for path in (tmp_path / "runs").iterdir()) == ["bbbbbb", "cccccc"]


def test_one_run_is_not_removed_for_the_name_of_another(
    make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("abc111", [])
    make("abc222", [])
    folder = f"--runs-dir={tmp_path / 'runs'}"
    for words in (["abc"], ["abc111", "zzz"], ["../runs"], [""]):
        assert main(["runs", "rm", *words, "--yes", folder]) == 4, words
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_nothing_is_no_name(make: Any, tmp_path: Path) -> None:
    """primer runs rm "$UNSET" --yes"""
    run = make("abc111", [])
    assert main(["runs", "rm", "", "--yes", f"--runs-dir={tmp_path / 'runs'}"]) in (2, 4)
    assert run.path.exists()
