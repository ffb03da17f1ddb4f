"""Train, resume, load — in this process, on a tiny model: what a run leaves, and what it refuses."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import primer
from primer.data.prepare import prepare
from primer.errors import DataError, DivergedError, StoppedError, SurroundingsError, UsageError
from primer.lock import RunLock
from primer.recipes import run as run_module
from primer.recipes.directory import RunDirectory, find
from primer.recipes.ending import going_on
from primer.recipes.report import Silence
from primer.recipes.session import STOPPING, Session
from primer.tokens import BPETokenizer
from primer.training import checkpoint
from primer.training.distributed import World
from setups import TINY


def train(text: Path, runs: Path, **flags: Any) -> primer.Run:
    return primer.train(text, flags={**TINY, **flags}, runs_dir=runs)


@pytest.fixture
def run(text_file: Path, tmp_path: Path) -> primer.Run:
    return train(text_file, tmp_path / "runs")


def weights(run: primer.Run) -> dict[str, torch.Tensor]:
    path = checkpoint.follow(run.directory.checkpoints, "latest")
    assert path is not None
    return checkpoint.load(path).model


def test_a_run_leaves_everything_that_one_needs(run: primer.Run) -> None:
    files = {path.name for path in run.path.iterdir()}
    assert {
        "config.toml",
        "run.json",
        "metrics.jsonl",
        "samples.jsonl",
        "tokenizer.json",
        "checkpoints",
    } <= files
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["status"] == "finished"
    assert facts["seed"] == 1337
    rows = run.metrics()
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == list(range(1, 13))
    assert steps[-1]["tokens"] == 12 * 8 * 16
    assert [row["step"] for row in rows if "val_loss" in row] == [6, 12]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert len(run.generate("three", tokens=9, seed=1)) == 9
    assert run.generate("three", tokens=9, seed=1) == run.generate("three", tokens=9, seed=1)
    scores = run.evaluate()
    last = [row for row in rows if "val_loss" in row][-1]
    assert scores["loss"] == pytest.approx(last["val_loss"], abs=1e-6)


def test_its_config_fed_back_reproduces_it(run: primer.Run, tmp_path: Path) -> None:
    again = primer.train(run.path / "config.toml", runs_dir=tmp_path / "again")
    losses = [[row["loss"] for row in each.metrics() if "loss" in row] for each in (run, again)]
    assert losses[0] == losses[1]


def test_longer_training_goes_on_from_the_end(run: primer.Run, tmp_path: Path) -> None:
    longer = primer.resume("latest", flags={"train.steps": 15}, runs_dir=tmp_path / "runs")
    assert [row["step"] for row in longer.metrics() if "loss" in row] == list(range(1, 16))
    with pytest.raises(UsageError, match="taken 15 of its 15 steps"):
        primer.resume("latest", runs_dir=tmp_path / "runs")


def test_another_batch_forgets_what_was_measured_for_the_old_one(text_file: Path, tmp_path: Path) -> None:
    train(text_file, tmp_path / "runs", **{"train.micro_batch": 4})
    flags = {"train.steps": 15, "train.batch_size": 6}
    longer = primer.resume("latest", flags=flags, runs_dir=tmp_path / "runs")
    tokens = [row["tokens"] for row in longer.metrics() if "loss" in row]
    assert tokens[-1] - tokens[-2] == 6 * 16
    with pytest.raises(UsageError, match="does not divide by"):
        primer.resume("latest", flags={**flags, "train.micro_batch": 4}, runs_dir=tmp_path / "runs")


def test_init_from_starts_with_the_others_weights(run: primer.Run, text_file: Path, tmp_path: Path) -> None:
    flags = {**TINY, "optim.name": "adamw", "optim.lr": 1e-12, "train.steps": 2, "schedule.warmup": 0}
    child = primer.train(text_file, flags=flags, runs_dir=tmp_path / "runs", init_from=run.path)
    for name, tensor in weights(run).items():
        torch.testing.assert_close(weights(child)[name], tensor, atol=1e-6, rtol=0)
    other = tmp_path / "other.txt"
    other.write_text("quite another alphabet: ß" * 99)
    with pytest.raises(DataError, match="unknown character 'q'"):
        primer.train(other, flags=TINY, runs_dir=tmp_path / "runs", init_from=run.path)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(
    number: signal.Signals, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: primer.Run
) -> None:
    record = Session.record

    def interrupting(self: Session, row: dict[str, Any]) -> None:
        record(self, row)
        if row["step"] == 5 and not self.run.path.is_relative_to(run.path):
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "record", interrupting)
        with pytest.raises(StoppedError) as caught:
            train(text_file, tmp_path / "stopped")
    assert caught.value.exit_code == 128 + number
    stopped = find("latest", tmp_path / "stopped")
    assert caught.value.hint == f"primer resume {stopped.path}"
    assert stopped.read_facts()["status"] == "stopped"
    resumed = primer.resume("latest", runs_dir=tmp_path / "stopped")
    for name, tensor in weights(run).items():
        assert torch.equal(weights(resumed)[name], tensor), name


def test_a_second_signal_leaves_at_once(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(self: Session, row: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Session, "record", twice)
    with pytest.raises(StoppedError, match="at once; step_000000 is saved") as caught:
        train(text_file, tmp_path / "runs")
    assert caught.value.exit_code == 130
    run = find("latest", tmp_path / "runs")
    assert run.read_facts()["status"] == "stopped"
    assert caught.value.hint == f"primer resume {run.handle}"


def test_the_command_to_go_on_starts_as_many_processes(text_file: Path, tmp_path: Path) -> None:
    run = train(text_file, tmp_path / "runs").directory
    alone = f"primer resume {run.handle}"
    assert going_on(run, World()) == alone
    assert going_on(run, World(0, 2, local_size=2)) == f"torchrun --nproc-per-node=2 -m {alone}"
    several = going_on(run, World(0, 16, local_size=8))
    assert several == f"on every machine: torchrun --nproc-per-node=8 -m {alone}"


def test_a_run_goes_on_with_its_text_at_another_place(text_file: Path, tmp_path: Path) -> None:
    """Only with the same tokens."""
    shards, other = tmp_path / "shards", tmp_path / "other"
    prepare(text_file, tokenizer="byte", out=shards)
    longer = tmp_path / "longer.txt"
    longer.write_text(text_file.read_text() * 2)
    prepare(longer, tokenizer="byte", out=other)
    run = primer.train("default", flags={**TINY, "data.source": str(shards)}, runs_dir=tmp_path / "runs")
    shards.rename(tmp_path / "moved")
    with pytest.raises(DataError) as caught:
        primer.resume(run, flags={"train.steps": 14})
    assert caught.value.hint == "put it back, or say where it is now: --data.source=PATH"
    with pytest.raises(DataError, match="has changed"):
        primer.resume(run, flags={"train.steps": 14, "data.source": str(other)})
    primer.resume(run, flags={"train.steps": 14, "data.source": str(tmp_path / "moved")})
    assert primer.load(run).config.data.source == str(tmp_path / "moved")
    assert run.directory.read_facts()["data"]["path"] == str(tmp_path / "moved")
    primer.resume(run, flags={"train.steps": 16})


def test_an_order_that_the_recipe_chose_gives_way_where_documents_are_long(
    text_file: Path, tmp_path: Path
) -> None:
    """What was asked for does not."""
    tokenizer = BPETokenizer.train([text_file.read_text()], vocab_size=280)
    (tmp_path / "words.json").write_text(tokenizer.to_json())
    (tmp_path / "mine.toml").write_text('base = "gpt2-124m-modern"\n')
    flags = {
        **{key: value for key, value in TINY.items() if not key.startswith("optim.")},
        "train.steps": 2,
        "schedule.warmup": 0,
        "data.source": str(text_file),
        "data.tokenizer": str(tmp_path / "words.json"),
        "data.validation_fraction": 0.1,
    }
    told: list[str] = []

    class Told(Silence):
        def on_message(self, text: str) -> None:
            told.append(text)

    for recipe in ("gpt2-124m-modern", tmp_path / "mine.toml"):
        run = primer.train(recipe, flags=flags, runs_dir=tmp_path / "runs", reporter=Told())
        assert run.config.data.order == "epochs"
        assert "windows begin anywhere" in told.pop()
    with pytest.raises(DataError, match="would leave out"):
        primer.train(
            "gpt2-124m-modern", flags={**flags, "data.order": "documents"}, runs_dir=tmp_path / "runs"
        )


def test_flags_may_be_spelt_as_on_a_command_line(text_file: Path, tmp_path: Path) -> None:
    flags = {key.replace("_", "-"): value for key, value in TINY.items()}
    run = primer.train(text_file, flags=flags, runs_dir=tmp_path / "runs")
    assert run.config.model.d_model == TINY["model.d_model"]
    assert primer.resume(run, flags={"train.log-every": 2, "train.steps": 14}).config.train.log_every == 2


def test_numbers_that_are_not_finite_change_no_weight_and_end_the_run(
    text_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(DivergedError) as caught:
        train(text_file, tmp_path / "runs", **{"optim.lr": 1e30, "optim.clip": 0.0, "train.patience": 3})
    run = find("latest", tmp_path / "runs")
    assert "last good checkpoint" in str(caught.value.where)
    assert run.read_facts()["status"] == "diverged"
    bad = [row for row in run.metrics.rows() if "event" in row]
    assert len(bad) == 3
    path = checkpoint.newest(run.checkpoints)
    assert path is not None
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.load(path).model.values())


def test_a_text_that_changed_is_noticed(run: primer.Run, text_file: Path, tmp_path: Path) -> None:
    import shutil

    text_file.write_text(text_file.read_text().replace("seven", "eleven"))
    shutil.rmtree(json.loads((run.path / "run.json").read_text())["data"]["path"])
    with pytest.raises(DataError, match="text of this run has changed"):
        primer.resume("latest", flags={"train.steps": 20}, runs_dir=tmp_path / "runs")


def test_a_vocabulary_that_changed_is_noticed(run: primer.Run) -> None:
    from primer.tokens.char import CharTokenizer

    file = run.path / "tokenizer.json"
    characters = json.loads(file.read_text())["characters"]
    file.write_text(CharTokenizer(characters[::-1]).to_json())
    with pytest.raises(DataError, match="not the one that these weights were trained with"):
        primer.load(run.path).generate("two")


def test_two_trainings_cannot_have_one_run(run: primer.Run, tmp_path: Path) -> None:
    with (
        RunLock(run.path),
        pytest.raises(SurroundingsError, match=f"being trained by process {os.getpid()}"),
    ):
        primer.resume("latest", flags={"train.steps": 20}, runs_dir=tmp_path / "runs")


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(run: primer.Run, tmp_path: Path) -> None:
    file = run.directory.checkpoints / "step_000012" / "optim.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    before = [row["loss"] for row in run.metrics() if "loss" in row]
    resumed = primer.resume("latest", runs_dir=tmp_path / "runs")
    assert [row["loss"] for row in resumed.metrics() if "loss" in row] == before
    assert resumed.directory.read_facts()["resumed"] == [8]


def test_accumulation_is_the_big_batch(text_file: Path, tmp_path: Path) -> None:
    """Micro-batches of any size give the same losses, up to rounding."""
    plain = {"optim.name": "adamw", "optim.lr": 1e-3}  # Muon in bf16 would magnify the rounding
    runs = [
        train(text_file, tmp_path / str(rows), **plain, **{"train.micro_batch": rows}) for rows in (8, 4, 1)
    ]
    losses = [[row["loss"] for row in run.metrics() if "loss" in row] for run in runs]
    assert losses[1] == pytest.approx(losses[0], abs=2e-5)
    assert losses[2] == pytest.approx(losses[0], abs=2e-5)


def test_averaged_weights_are_what_is_kept(text_file: Path, tmp_path: Path) -> None:
    run = train(text_file, tmp_path / "runs", **{"train.weight_average": 0.5})
    path = checkpoint.follow(run.directory.checkpoints, "latest")
    assert path is not None
    saved = checkpoint.load(path)
    raw = saved.optim["weights.head.weight"]
    assert not torch.equal(saved.model["head.weight"], raw)
    assert run.evaluate()["loss"] == pytest.approx(
        [row for row in run.metrics() if "val_loss" in row][-1]["val_loss"], abs=1e-6
    )


def test_runs_are_found_by_path_prefix_and_latest(run: primer.Run, text_file: Path, tmp_path: Path) -> None:
    second = train(text_file, tmp_path / "runs")
    assert find("latest", tmp_path / "runs").path == second.path
    assert find(run.directory.id[:5], tmp_path / "runs").path == run.path
    assert find(run.path).path == run.path
    with pytest.raises(DataError, match="no run called nonsense"):
        find("nonsense", tmp_path / "runs")
    with pytest.raises(DataError, match="beginning of several runs"):
        find("20", tmp_path / "runs")
    with pytest.raises(DataError, match="no runs yet"):
        find("latest", tmp_path / "nowhere")


def test_a_directory_without_a_checkpoint_says_so(tmp_path: Path, run: primer.Run) -> None:
    import shutil

    shutil.rmtree(run.directory.checkpoints)
    with pytest.raises(DataError, match="no whole checkpoint"):
        primer.resume(run.path, flags={"train.steps": 99})
    with pytest.raises(DataError, match="no checkpoint yet"):
        _ = primer.load(RunDirectory(run.path).path).model


def test_minutes_become_steps_that_are_kept(text_file: Path, tmp_path: Path) -> None:
    wanted = {"train.steps": 100_000, "train.minutes": 0.01, "train.evaluate_every": 1000}
    run = train(
        text_file, tmp_path / "runs", **{**wanted, "train.checkpoint_every": 1000, "schedule.warmup": 50_000}
    )
    chosen = run.config.train.steps
    assert 20 <= chosen < 5000, "a step takes about a millisecond"
    assert run.config.train.minutes == 0
    assert run.config.schedule.warmup == chosen // 10
    assert max(row["step"] for row in run.metrics()) == chosen
    plenty = train(text_file, tmp_path / "runs", **{"train.minutes": 60.0})
    assert plenty.config.train.steps == TINY["train.steps"]
    without = train(text_file, tmp_path / "runs")
    losses = [[row["loss"] for row in each.metrics() if "loss" in row] for each in (plenty, without)]
    assert losses[0] == losses[1], "measuring leaves no trace"


def test_finetuning_nothing_is_refused(text_file: Path, tmp_path: Path, run: primer.Run) -> None:
    flags = {**TINY, "data.source": str(text_file)}
    with pytest.raises(UsageError, match="goes on from the weights of another run") as caught:
        primer.train("finetune", flags=flags, runs_dir=tmp_path / "runs")
    assert caught.value.hint == "--init-from=RUN"
    flags = {"data.source": str(text_file), "train.steps": 1, "schedule.warmup": 0, "train.device": "cpu"}
    tuned = primer.train("finetune", flags=flags, runs_dir=tmp_path / "runs", init_from=run.path)
    assert tuned.config.needs_weights


class Listener:
    """Hears messages only."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def on_message(self, text: str) -> None:
        self.said.append(text)

    def __getattr__(self, name: str) -> Any:
        return lambda *values: None


def test_days_are_said_before_they_are_spent(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run_module.plan
    for seconds, expected in ((3600.0, False), (10 * 86400.0, True)):
        monkeypatch.setattr(run_module, "plan", lambda *a, s=seconds: {**plain(*a), "seconds": s})
        told = Listener()
        primer.train(text_file, flags={**TINY}, runs_dir=tmp_path / "runs", reporter=told)
        assert any("about 10 days on this machine" in text for text in told.said) == expected
