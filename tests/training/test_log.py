"""Rows survive a cut line, forget a future that did not happen, and reach the trackers that were asked for."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from primer.errors import SurroundingsError
from primer.training.log import JsonLines, open_trackers


def test_rows_survive_a_cut_line_and_are_trimmed(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "metrics.jsonl")
    assert log.rows() == []
    for step in range(1, 6):
        log.append({"step": step, "loss": float("nan") if step == 2 else 0.5, "text": "ß"})
    with open(log.file, "a", encoding="utf-8") as handle:
        handle.write('{"step": 6, "lo')
    assert [row["step"] for row in log.rows()] == [1, 2, 3, 4, 5]
    assert log.rows()[1]["loss"] == "nan"
    log.trim(3)
    assert [row["step"] for row in log.rows()] == [1, 2, 3]
    assert [json.loads(line)["text"] for line in log.file.read_text(encoding="utf-8").splitlines()] == [
        "ß"
    ] * 3


def test_a_tracker_hears_what_was_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    fake = SimpleNamespace(
        init=lambda project, name: heard.append((project, name)),
        log=lambda values, step: heard.append((values, step)),
        finish=lambda: heard.append("finished"),
    )
    monkeypatch.setitem(sys.modules, "trackio", fake)
    (tracker,) = open_trackers(["trackio"], tmp_path / "a-run")
    tracker.log({"loss": 1.5}, 3)
    tracker.close()
    assert heard == [("primer", "a-run"), ({"loss": 1.5}, 3), "finished"]


def test_tensorboard_writes_into_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []

    def writer(place: str) -> SimpleNamespace:
        heard.append(place)
        return SimpleNamespace(
            add_scalar=lambda *values: heard.append(values), close=lambda: heard.append("closed")
        )

    fake = SimpleNamespace(SummaryWriter=writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    (tracker,) = open_trackers(["tensorboard"], tmp_path)
    tracker.log({"loss": 1.5, "lr": 0.1}, 3)
    tracker.close()
    assert heard == [str(tmp_path / "tensorboard"), ("loss", 1.5, 3), ("lr", 0.1, 3), "closed"]


def test_a_tracker_that_is_not_installed_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for name, package in (("wandb", "wandb"), ("tensorboard", '"gpt-primer[track]"')):
        with pytest.raises(SurroundingsError, match=f"{name} is not installed") as caught:
            open_trackers([name], tmp_path)
        assert caught.value.hint == f"python -m pip install {package}"
