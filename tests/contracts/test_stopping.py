"""Whoever asks for an end gets it after the step, and the run that goes on is the run that never stopped."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import primer
from primer.cli.main import explain
from primer.data.batches import Batch
from primer.errors import StoppedError, UsageError
from primer.recipes import language, session
from primer.recipes.directory import RunDirectory, find
from primer.recipes.report import Silence
from primer.recipes.session import Session
from primer.training import checkpoint
from setups import TINY

FLAGS = {
    **TINY,
    "train.steps": 8,
    "train.evaluate_every": 4,
    "train.sample_every": 4,
    "train.checkpoint_every": 3,
}


def train(text: Path, runs: Path, **flags: Any) -> primer.Run:
    return primer.train(text, flags={**FLAGS, **flags}, runs_dir=runs)


def left_by(run: RunDirectory) -> list[Any]:
    """All losses, scores, samples, and the last weights."""
    rows = [
        {key: row[key] for key in ("step", "loss", "val_loss") if key in row} for row in run.metrics.rows()
    ]
    path = checkpoint.follow(run.checkpoints, "latest")
    assert path is not None
    saved = checkpoint.load(path)
    weights = {name: tensor.tolist() for name, tensor in saved.model.items()}
    best = checkpoint.follow(run.checkpoints, "best")
    assert best is not None
    progress = {key: value for key, value in saved.state["progress"].items() if key != "seconds"}
    return [rows, run.samples.rows(), weights, best.name, progress]


def evaluated(run: RunDirectory) -> list[int]:
    return [row["step"] for row in run.metrics.rows() if "val_loss" in row]


@pytest.fixture
def whole(text_file: Path, tmp_path: Path) -> list[Any]:
    """What a run leaves that nobody stopped."""
    return left_by(train(text_file, tmp_path / "whole").directory)


@pytest.mark.parametrize("at", [3, 4, 8], ids=["between", "before it is evaluated", "at the last step"])
def test_an_end_comes_before_evaluating_and_sampling(
    at: int, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[Any]
) -> None:
    record = Session.record

    def interrupting(self: Session, row: dict[str, Any]) -> None:
        record(self, row)
        if row["step"] == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "record", interrupting)
        with pytest.raises(StoppedError, match=f"step {at}, which is saved"):
            train(text_file, tmp_path / "runs")
    run = find("latest", tmp_path / "runs")
    assert evaluated(run) == [step for step in (4, 8) if step < at]
    primer.resume("latest", runs_dir=tmp_path / "runs")
    assert left_by(run) == whole
    assert run.read_facts()["status"] == "finished"
    with pytest.raises(UsageError, match="finished"):
        primer.resume("latest", runs_dir=tmp_path / "runs")


@pytest.mark.parametrize("at", [4, 8])
def test_an_end_is_not_kept_waiting_by_an_evaluation(
    at: int, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[Any]
) -> None:
    """The evaluation is broken off, and made when the run goes on."""
    batches = language.validation_batches

    def interrupting(*arguments: Any, **more: Any) -> Iterator[Batch]:
        for batch in batches(*arguments, **more):
            if arguments[-1] == at:
                os.kill(os.getpid(), signal.SIGINT)
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(language, "validation_batches", interrupting)
        with pytest.raises(StoppedError, match=f"step {at}, which is saved") as caught:
            train(text_file, tmp_path / "runs")
    assert caught.value.exit_code == 130
    run = find("latest", tmp_path / "runs")
    assert at not in evaluated(run)
    primer.resume("latest", runs_dir=tmp_path / "runs")
    assert left_by(run) == whole


def test_what_is_made_up_for_is_made_once(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[Any]
) -> None:
    """The run goes on, is evaluated and sampled, and dies before it can save that it was."""
    record = Session.record

    def interrupting(self: Session, row: dict[str, Any]) -> None:
        record(self, row)
        if row["step"] == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    class Full(BaseException):
        pass

    def full(*values: Any, **more: Any) -> None:
        raise Full

    with monkeypatch.context() as patch:
        patch.setattr(Session, "record", interrupting)
        with pytest.raises(StoppedError):
            train(text_file, tmp_path / "runs")
    run = find("latest", tmp_path / "runs")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(Full):
            primer.resume("latest", runs_dir=tmp_path / "runs")
    assert (evaluated(run), len(run.samples.rows())) == ([4], 1)
    primer.resume("latest", runs_dir=tmp_path / "runs")
    assert left_by(run) == whole


def test_what_was_saved_last_stays_where_a_damaged_one_had_a_higher_number(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep one; the newest is damaged; go on from the best; stop before its number is reached again."""
    run = train(text_file, tmp_path, **{"train.keep": 1, "train.weight_average": 0.0}).directory
    last = checkpoint.step_directory(run.checkpoints, 8)
    best = checkpoint.step_directory(run.checkpoints, 4)
    if not best.exists():  # step 8 was the best: make an older one by going on
        primer.resume(run.path, flags={"train.steps": 12, "optim.lr": 1e-9, "optim.muon_lr": 1e-9})
        every = checkpoint.every(run.checkpoints)
        best, last = every[0], every[-1]
    assert best != last
    file = last / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    record = Session.record

    def interrupting(self: Session, row: dict[str, Any]) -> None:
        record(self, row)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Session, "record", interrupting)
    with pytest.raises(StoppedError, match="which is saved"):
        primer.resume(run.path)
    saved = checkpoint.step_directory(run.checkpoints, checkpoint.step_of(best) + 1)
    assert checkpoint.follow(run.checkpoints, "latest") == saved
    assert checkpoint.newest(run.checkpoints) == saved
    assert last not in checkpoint.every(run.checkpoints)


def test_a_second_signal_has_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain(KeyboardInterrupt(signal.SIGTERM), debug=False) == 143
    assert explain(KeyboardInterrupt(signal.SIGINT), debug=False) == 130
    assert explain(KeyboardInterrupt(), debug=False) == 130
    assert capsys.readouterr().err.count("stopped") == 3


def test_a_signal_that_comes_while_something_is_written_is_heard(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python refuses to enter a stream twice; the run must not die of it."""

    class Busy(Silence):
        def on_message(self, text: str) -> None:
            raise RuntimeError("reentrant call")

    record = Session.record

    def interrupting(self: Session, row: dict[str, Any]) -> None:
        record(self, row)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Session, "record", interrupting)
    with pytest.raises(StoppedError, match="step 1, which is saved"):
        primer.train(text_file, flags=FLAGS, runs_dir=tmp_path, reporter=Busy())
    assert torch.get_num_threads() == 1


def test_an_end_is_not_kept_waiting_by_a_long_step(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is given up in its middle, everything is as before it, and the run that goes on takes it whole."""
    flags: dict[str, Any] = {
        "train.batch_size": 4,
        "train.micro_batch": 1,
        "model.embedding_dropout": 0.2,
        "model.feed_forward_dropout": 0.2,
    }
    whole = left_by(train(text_file, tmp_path / "whole", **flags).directory)
    told: list[str] = []

    class Interrupting(Silence):
        parts = 0

        def on_part(self, what: str, done: int, total: int) -> None:
            self.parts += what == "this step"
            if self.parts == 3 * 6 + 2:  # the second of the four micro-batches of step 7
                os.kill(os.getpid(), signal.SIGTERM)

        def on_message(self, text: str) -> None:
            told.append(text)

    with monkeypatch.context() as patch:
        patch.setattr(session, "LONG", 0.0)
        with pytest.raises(StoppedError, match="step 6, which is saved"):
            primer.train(
                text_file, flags={**FLAGS, **flags}, runs_dir=tmp_path / "runs", reporter=Interrupting()
            )
    assert told == ["giving up this step (0:00 left) and saving; once more to leave at once, unsaved"]
    run = find("latest", tmp_path / "runs")
    assert [row["step"] for row in run.metrics.rows() if "loss" in row] == [1, 2, 3, 4, 5, 6]
    primer.resume("latest", runs_dir=tmp_path / "runs")
    assert left_by(run) == whole


class Interrupting(Silence):
    """Asks for an end at the first micro-batch of a step that is told of."""

    def on_part(self, what: str, done: int, total: int) -> None:
        if what == "this step":
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_short_step_is_finished(text_file: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match="step 1, which is saved"):
        primer.train(
            text_file,
            flags={**FLAGS, "train.batch_size": 2, "train.micro_batch": 1},
            runs_dir=tmp_path / "runs",
            reporter=Interrupting(),
        )


def saves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of all checkpoints that are written from here on."""
    seen: list[int] = []
    ordinary = checkpoint.save

    def watched(root: Path, step: int, **more: Any) -> Path:
        seen.append(step)
        return ordinary(root, step, **more)

    monkeypatch.setattr(checkpoint, "save", watched)
    return seen


def test_what_is_saved_already_is_not_written_again(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In that moment a second signal is likely, and nothing has changed."""
    seen = saves(monkeypatch)
    monkeypatch.setattr(session, "LONG", -1.0)
    halves = {**FLAGS, "train.batch_size": 3, "train.micro_batch": 1}
    with pytest.raises(StoppedError, match="step 0, which is saved"):
        primer.train(text_file, flags=halves, runs_dir=tmp_path / "runs", reporter=Interrupting())
    assert seen == [0]
    with pytest.raises(StoppedError, match="step 0, which is saved"):
        primer.resume("latest", runs_dir=tmp_path / "runs", reporter=Interrupting())
    assert seen == [0]


def test_a_step_that_was_not_applied_does_not_keep_those_before_it_from_being_saved(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient that overflows is everyday life in fp16: the weights are as they were."""
    from primer.training import loop

    norms = iter([1.0, 1.0, float("inf")])
    monkeypatch.setattr(loop, "clip_grad_norm", lambda *values: torch.tensor(next(norms, 1.0)))
    monkeypatch.setattr(session, "LONG", -1.0)

    class AtTheFourth(Silence):
        steps = 0

        def on_step(self, row: Any) -> None:
            self.steps += 1

        def on_part(self, what: str, done: int, total: int) -> None:
            if what == "this step" and self.steps == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    flags = {**FLAGS, "train.batch_size": 3, "train.micro_batch": 1, "train.checkpoint_every": 100}
    flags |= {"train.evaluate_every": 100}
    with pytest.raises(StoppedError, match="step 3, which is saved"):
        primer.train(text_file, flags=flags, runs_dir=tmp_path / "runs", reporter=AtTheFourth())


def test_a_step_is_not_begun_after_an_end_was_asked_for(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    class WhileSaving(Silence):
        def on_save(self, path: str) -> None:
            if path.endswith("step_000003"):
                os.kill(os.getpid(), signal.SIGTERM)

        def on_message(self, text: str) -> None:
            told.append(text)

    seen = saves(monkeypatch)
    with pytest.raises(StoppedError, match="step 3, which is saved"):
        primer.train(text_file, flags=FLAGS, runs_dir=tmp_path / "runs", reporter=WhileSaving())
    assert seen == [0, 3]
    assert told == ["finishing this step and saving; once more to leave at once, unsaved"]
    assert len([row for row in find("latest", tmp_path / "runs").metrics.rows() if "loss" in row]) == 3
