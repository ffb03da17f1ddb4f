"""What once went wrong here, each as the story of a user, on tiny runs. None of it may come back."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import primer
import setups
from primer.errors import DataError, DivergedError, StoppedError, SurroundingsError, UsageError
from primer.recipes import language, session
from primer.recipes.build import validation_batches
from primer.recipes.directory import find
from primer.recipes.resolve import resolve
from primer.recipes.summary import summarise
from primer.recipes.text import prepare_data
from primer.training import checkpoint
from primer.training.distributed import World
from primer.training.loop import Progress, Trainer, keep_best

TINY = {**setups.TINY, "train.steps": 8, "train.evaluate_every": 4, "train.sample_every": 0}


def train(text: Path, runs: Path, **flags: Any) -> primer.Run:
    return primer.train(text, flags={**TINY, **flags}, runs_dir=runs)


@pytest.fixture
def run(text_file: Path, tmp_path: Path) -> primer.Run:
    return train(text_file, tmp_path / "runs")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def started(place: Path, text: Path, before: str = "", **options: Any) -> subprocess.Popen[bytes]:
    """`primer train` with more steps than anyone waits for, in a process of its own."""
    flags = " ".join(f"--{name}={value}" for name, value in {**TINY, "train.steps": 100_000}.items())
    command = f"{before} exec {sys.executable} -m primer train {text} --runs-dir={place} {flags}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, shell=True, env=environment, **options)


def steps_taken(place: Path, at_least: int) -> int:
    """Wait until a run below `place` has taken so many steps."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        steps = [len(file.read_text().splitlines()) for file in place.glob("*/metrics.jsonl")]
        if steps and max(steps) >= at_least:
            return max(steps)
        time.sleep(0.02)
    raise AssertionError("it does not train")


def test_a_terminal_that_is_closed_costs_nothing(tmp_path: Path, text_file: Path) -> None:
    """The window is closed: writing to it fails, SIGHUP comes, and the run is saved all the same."""
    ours, theirs = pty.openpty()
    options = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "start_new_session": True}
    child = started(tmp_path, text_file, **options)
    os.close(theirs)
    os.set_blocking(ours, False)
    try:
        steps_taken(tmp_path, 10)
        os.close(ours)
        child.send_signal(signal.SIGHUP)
        assert child.wait(timeout=60) == 128 + signal.SIGHUP
    finally:
        child.kill()
    run = find("latest", tmp_path)
    assert run.read_facts()["status"] == "stopped"
    last = checkpoint.newest(run.checkpoints)
    assert last is not None
    assert checkpoint.load(last).state["step"] == len([r for r in run.metrics.rows() if "loss" in r])


def test_nohup_is_respected(tmp_path: Path, text_file: Path) -> None:
    """A process that was told to ignore SIGHUP goes on."""
    child = started(tmp_path, text_file, "trap '' HUP;", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        before = steps_taken(tmp_path, 10)
        child.send_signal(signal.SIGHUP)
        assert steps_taken(tmp_path, before + 20)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_weights_that_were_refused_never_write(run: primer.Run) -> None:
    best = checkpoint.follow(run.directory.checkpoints, "best")
    assert best is not None
    flip(best / "model.safetensors")
    loaded = primer.load(run)
    for _ in range(2):  # the second time, too
        with pytest.raises(DataError, match="SHA-256"):
            loaded.generate("two")


def test_a_score_that_is_no_number_is_never_the_best() -> None:
    progress = Progress(step=3)
    assert not keep_best(progress, {"val_loss": float("nan")})
    assert keep_best(progress, {"val_loss": 2.0})
    assert not keep_best(progress, {"val_loss": float("nan")})
    assert not keep_best(progress, {"val_loss": 9.9})
    assert progress.best_loss == 2.0


def test_a_kill_before_the_pointer_does_not_lose_the_best(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is there and says that it is the best; its pointer never came to be."""

    class Killed(BaseException):
        pass

    real = checkpoint.point

    def point(root: Path, name: str, step: int) -> None:
        if name == "best" and step == 8:
            raise Killed
        real(root, name, step)

    monkeypatch.setattr(checkpoint, "point", point)
    flags = {"train.steps": 20, "train.keep": 1, "optim.lr": 1e-3}
    with pytest.raises(Killed):
        train(text_file, tmp_path, **flags)
    monkeypatch.setattr(checkpoint, "point", real)
    # from here on nothing gets better, so that only step 8 can be the best
    monkeypatch.setattr("primer.training.loop.keep_best", lambda progress, scores: False)
    resumed = primer.resume("latest", runs_dir=tmp_path)
    best = checkpoint.follow(resumed.directory.checkpoints, "best")
    assert best is not None
    assert best.name == "step_000008"


def test_resuming_what_is_finished_changes_nothing(run: primer.Run, tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in run.path.iterdir() if file.is_file()}
    for flags in ({}, {"train.steps": 2}):
        with pytest.raises(UsageError, match="finished"):
            primer.resume(run, flags=flags)
    assert {file.name: file.read_bytes() for file in run.path.iterdir() if file.is_file()} == before
    assert summarise(run.directory).status == "finished"


def test_a_tracker_that_is_missing_is_told_before_a_run_is_made(text_file: Path, tmp_path: Path) -> None:
    with pytest.raises(SurroundingsError, match="trackio is not installed") as caught:
        train(text_file, tmp_path, **{"train.trackers": ("trackio",)})
    assert caught.value.hint == "python -m pip install trackio"
    assert not list(tmp_path.glob("*/run.json"))


def test_what_was_counted_belongs_to_the_text(text_file: Path, tmp_path: Path) -> None:
    """Weights come from the other run, counts from this run's text."""
    counted = {"model.ngram.counted": 3, "model.ngram.folds": 2, "data.tokenizer": "byte"}
    first = train(text_file, tmp_path / "runs", **counted)
    other = tmp_path / "other.txt"
    other.write_text("".join(f"{n} squared is {n * n}; " for n in range(900)))
    flags = {**TINY, **counted}
    second = primer.train(other, flags=flags, runs_dir=tmp_path / "runs", init_from=first)
    fresh = primer.train(other, flags=flags, runs_dir=tmp_path / "runs")
    tables = [each.model.counts.state_dict() for each in (second, fresh)]
    assert tables[0].keys() == tables[1].keys()
    assert all(torch.equal(tables[0][name], tables[1][name]) for name in tables[0])
    primer.resume(second, flags={"train.steps": 10})

    plain = train(text_file, tmp_path / "runs", **{"data.tokenizer": "byte"})
    with pytest.raises(UsageError, match=r"model\.ngram\.counted=3"):
        primer.train(other, flags=flags, runs_dir=tmp_path / "runs", init_from=plain)


def test_a_vocabulary_comes_along_with_the_weights(run: primer.Run, tmp_path: Path) -> None:
    """On another text, a run goes on with its own characters; strangers are named, or dropped when asked to."""
    other = tmp_path / "other.txt"
    other.write_text("two times two is four, and Zoë says so. " * 40)
    arguments = {"runs_dir": tmp_path / "runs", "init_from": run}
    with pytest.raises(DataError, match="unknown character") as caught:
        primer.train(other, flags=TINY, **arguments)
    assert caught.value.hint == "--data.unknown=skip"
    second = primer.train(other, flags={**TINY, "data.unknown": "skip"}, **arguments)
    assert second.tokenizer.fingerprint == run.tokenizer.fingerprint

    with pytest.raises(DataError, match=r"unknown character ',' .* at position 21") as caught:
        run.evaluate(other)
    assert caught.value.hint == "--unknown=skip"
    scores = run.evaluate(other, unknown="skip")
    strangers = sum(c not in set(run.tokenizer.characters) for c in other.read_text())
    assert scores["skipped"] == strangers > 0
    assert scores["tokens"] == len(other.read_text()) - strangers - 1


def test_shards_that_were_thrown_away_are_made_again(run: primer.Run, tmp_path: Path) -> None:
    """Also those of a run that took its vocabulary from another one."""
    other = tmp_path / "other.txt"
    other.write_text("two times two is four, and Zoë says so. " * 40)
    flags = {**TINY, "data.unknown": "skip"}
    second = primer.train(other, flags=flags, runs_dir=tmp_path / "runs", init_from=run)
    for each in (run, second):
        shutil.rmtree(each.directory.read_facts()["data"]["path"])
        assert primer.resume(each, flags={"train.steps": 10}).directory.read_facts()["status"] == "finished"


def test_a_run_from_a_gpu_writes_where_there_is_none(run: primer.Run) -> None:
    file = run.path / "config.toml"
    file.write_text(re.sub(r'device = "cpu"', 'device = "cuda"', file.read_text()))
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert len(primer.load(run.path).generate("two", tokens=5)) == 5


def test_processes_share_out_random_batches(text_file: Path) -> None:
    config = resolve(text_file, flags={**TINY, "train.evaluate_batches": 5}).config
    shards = prepare_data(config, World())

    def starts(rank: int, size: int) -> list[list[int]]:
        batches = validation_batches(
            config, shards, World(rank=rank, size=size), step=3, device=torch.device("cpu")
        )
        return [batch.starts.tolist() for batch in batches]

    alone = starts(0, 1)
    assert len(alone) == 5
    assert sorted(starts(0, 2) + starts(1, 2)) == sorted(alone)


def test_a_tied_head_that_starts_at_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="tied_head") as caught:
        resolve("default", flags={"model.tied_head": True})
    assert caught.value.hint == "--model.zero-init-head=false"
    resolve("default", flags={"model.tied_head": True, "model.zero_init_head": False})


@pytest.mark.parametrize(
    "flag",
    [
        {"model.rotary_base": 0.0},
        {"model.init_std": -1.0},
        {"model.embedding_std": -1.0},
        {"model.logit_soft_cap": -3.0},
        {"model.attention_gain": 0.0},
        {"model.norm_eps": 0.0},
    ],
    ids=lambda flag: next(iter(flag)),
)
def test_impossible_numbers_are_named(flag: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(flag))):
        resolve("default", flags=flag)


def test_samples_may_hold_any_line_end(run: primer.Run) -> None:
    texts = ["plain", "a\u2028b", "c\u0085d", "e\x1cf\rg"]
    for step, text in enumerate(texts):
        run.directory.samples.append({"step": step, "text": text})
    run.directory.samples.trim(10)
    assert [row["text"] for row in run.directory.samples.rows()] == texts


def test_going_on_from_the_start_keeps_the_first_checkpoint(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only checkpoint there is must not be written over."""

    def stop(*values: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(language, "score", stop)
    with pytest.raises(StoppedError):
        train(text_file, tmp_path)
    (first,) = checkpoint.every(find("latest", tmp_path).checkpoints)
    inode = (first / "model.safetensors").stat().st_ino
    with pytest.raises(StoppedError):
        primer.resume("latest", runs_dir=tmp_path)
    assert (first / "model.safetensors").stat().st_ino == inode


@pytest.mark.parametrize(
    "flag",
    [{"model.d_model": 32}, {"model.ngram.counted": 2}, {"model.n_heads": 1}, {"model.activation": "relu"}],
    ids=lambda flag: next(iter(flag)),
)
def test_another_model_cannot_go_on(
    text_file: Path, tmp_path: Path, flag: dict[str, Any], run: primer.Run
) -> None:
    """Not by a flag, and not by a hand in config.toml: equal shapes are no proof that weights belong to a model."""
    with pytest.raises(UsageError, match="cannot change when a run goes on"):
        primer.resume(run, flags={**flag, "train.steps": 20})
    assert (
        primer.resume(run, flags={"model.pattern_dropout": 0.1, "train.steps": 10}).config.train.steps == 10
    )
    other = train(text_file, tmp_path / "other", **flag)
    run.directory.write_config(replace(run.config, model=other.config.model))
    for use in (lambda: primer.load(run.path).generate("two"), lambda: primer.resume(run.path)):
        with pytest.raises(DataError, match="describes another model"):
            use()


def test_without_the_average_training_goes_on_from_the_weights(text_file: Path, tmp_path: Path) -> None:
    averaged = train(text_file, tmp_path, **{"train.weight_average": 0.9})
    plain = train(text_file, tmp_path, **{"train.weight_average": 0.0})
    losses = []
    for run in (averaged, plain):
        resumed = primer.resume(run, flags={"train.weight_average": 0.0, "train.steps": 12})
        losses.append([row["loss"] for row in resumed.metrics() if "loss" in row])
    assert losses[0] == losses[1]


def test_what_was_measured_can_be_measured_again(text_file: Path, tmp_path: Path) -> None:
    run = train(text_file, tmp_path, **{"train.micro_batch": 2})
    resumed = primer.resume(run, flags={"train.micro_batch": 0, "train.steps": 9})
    assert resumed.config.train.micro_batch == 8
    with pytest.raises(UsageError, match="minutes"):
        primer.resume(run, flags={"train.minutes": 1.0})


def test_a_text_without_a_new_line_can_be_written_from(tmp_path: Path) -> None:
    text = tmp_path / "line.txt"
    text.write_text("one two three " * 80)
    run = train(text, tmp_path / "runs", **{"sample.prompt": "\n"})
    assert len(run.generate(tokens=5)) == 5


def test_a_run_that_diverges_after_going_on_names_what_is_good(
    run: primer.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "primer.models.gpt.cross_entropy", lambda logits, *rest, **more: logits.sum() * torch.nan
    )
    with pytest.raises(DivergedError) as caught:
        primer.resume(run, flags={"train.steps": 30, "train.patience": 2})
    assert "step_000008" in str(caught.value.where)


def test_a_model_whose_logits_are_no_numbers_still_ends_as_diverged(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample that cannot be drawn is no reason to stop; the loop decides."""

    def refuse(*values: Any, **more: Any) -> str:
        raise DataError("the logits are not finite")

    monkeypatch.setattr(language, "stream", refuse)
    run = train(text_file, tmp_path, **{"train.sample_every": 2})
    assert summarise(run.directory).status == "finished"
    assert run.directory.samples.rows() == []


def test_steps_that_were_asked_for_are_taken() -> None:
    """The default recipe stops after some minutes; whoever asks for steps gets them."""
    assert resolve("default").config.train.minutes == 2.0
    assert resolve("default", flags={"train.steps": 50_000}).config.train.minutes == 0.0
    both = resolve("default", flags={"train.steps": 50_000, "train.minutes": 5.0}).config
    assert both.train.minutes == 5.0
    assert resolve("default", flags={"train.batch_size": 4}).config.train.minutes == 2.0


def test_a_context_that_was_made_short_needs_no_shorter_one() -> None:
    assert resolve("default", flags={"model.context_length": 32}).config.train.short_context == 0
    assert resolve("default", flags={"model.context_length": 200}).config.train.short_context == 128
    with pytest.raises(UsageError, match="short_context"):
        resolve("default", flags={"model.context_length": 32, "train.short_context": 64})


def test_a_text_beside_a_recipe_is_found_from_anywhere(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.toml").write_text('base = "default"\n[data]\nsource = "table.txt"\n')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resolve("../mine.toml").config.data.source == str(text_file)


def test_starting_from_a_run_takes_its_sizes(run: primer.Run, text_file: Path, tmp_path: Path) -> None:
    """Nobody has to repeat the flags of the run that the weights come from."""
    flags = {key: value for key, value in TINY.items() if not key.startswith("model.")}
    second = primer.train(text_file, flags=flags, runs_dir=tmp_path / "runs", init_from=run)
    assert second.config.model == run.config.model


def test_latest_is_a_run_that_can_be_used(run: primer.Run, tmp_path: Path) -> None:
    empty = tmp_path / "runs" / "2999-01-01-default-ffffff"
    empty.mkdir()
    (empty / "run.json").write_text('{"started": "2999"}')
    assert find("latest", tmp_path / "runs").path == run.path


def test_a_run_is_named_by_its_own_text(text_file: Path, tmp_path: Path) -> None:
    """Equal contents under another name share their shards, and keep their names."""
    copy = tmp_path / "copy.txt"
    copy.write_bytes(text_file.read_bytes())
    first, second = train(text_file, tmp_path / "runs"), train(copy, tmp_path / "runs")
    assert [each.directory.read_facts()["source"]["name"] for each in (first, second)] == [
        "table.txt",
        "copy.txt",
    ]
    assert "-table-" in first.path.name
    assert "-copy-" in second.path.name
    assert [summarise(each.directory).title for each in (first, second)] == ["table.txt", "copy.txt"]


def test_slow_steps_are_saved_by_the_clock(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few steps a slow machine takes, a kill costs some minutes."""
    saved = []
    real = session.Session.save
    monkeypatch.setattr(
        session.Session, "save", lambda self, step, best: (saved.append(step), real(self, step, best=best))
    )
    clock = iter(range(0, 10**6, 30))
    monkeypatch.setattr(
        "primer.training.loop.time",
        SimpleNamespace(monotonic=lambda: next(clock), perf_counter=time.perf_counter),
    )
    flags = {"train.checkpoint_every": 1000, "train.evaluate_every": 1000, "train.steps": 12}
    train(text_file, tmp_path, **{**flags, "train.checkpoint_minutes": 2.0})
    assert saved == [0, 4, 8, 12]
    saved.clear()
    train(text_file, tmp_path, **{**flags, "train.checkpoint_minutes": 0.0})
    assert saved == [0, 12]


def test_a_warm_up_stays_unless_it_is_most_of_a_run_cut_to_minutes(text_file: Path, tmp_path: Path) -> None:
    run = train(
        text_file,
        tmp_path,
        **{"train.steps": 10**6, "train.minutes": 0.001, "schedule.warmup": 2, "train.evaluate_every": 10**6},
    )
    assert run.config.train.steps < 10**6
    assert run.config.schedule.warmup == 2


def test_a_recipe_is_no_flag(capsys: pytest.CaptureFixture[str]) -> None:
    from primer.cli.main import main

    assert main(["train", "--recipe=shakespeare", "--print-config"]) == 2
    assert "primer train shakespeare" in capsys.readouterr().err


def test_several_runs_are_compared_by_the_same_loss(text_file: Path, tmp_path: Path, capsys) -> None:
    """One evaluation is no curve: then training is drawn for all; and what differs is said."""
    from primer.cli.main import main

    runs = [train(text_file, tmp_path, **{"train.evaluate_every": n, "optim.lr": n * 1e-3}) for n in (2, 8)]
    assert main(["runs", "compare", *(str(run.path) for run in runs)]) == 0
    said = capsys.readouterr().out
    assert "validation" not in said.partition("\n\n")[0]
    assert any(line.split() == ["optim.lr", "0.002", "0.008"] for line in said.splitlines())
    assert "model.d_model" not in said


def test_a_picture_into_a_folder_that_is_not_there(run: primer.Run, tmp_path: Path, capsys) -> None:
    pytest.importorskip("matplotlib")
    from primer.cli.main import main

    assert main(["runs", "show", str(run.path), f"--plot={tmp_path}/none/c.png"]) == 2
    assert f"mkdir -p {tmp_path}/none" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that takes no files, as /proc")
def test_a_picture_into_a_folder_that_takes_no_files(run: primer.Run, capsys) -> None:
    pytest.importorskip("matplotlib")
    from primer.cli.main import main

    assert main(["runs", "show", str(run.path), "--plot=/proc/self/c.png"]) == 3
    assert "cannot be written" in capsys.readouterr().err


def test_what_died_while_writing_is_swept_up(run: primer.Run) -> None:
    for place in (run.path, run.directory.checkpoints):
        (place / "run.json.tmp-99999").write_text("half")
    primer.resume(run, flags={"train.steps": 9})
    assert not list(run.path.rglob("*.tmp-*"))


def test_only_reproducible_kernels_while_it_trains(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen = []
    reporter = SimpleNamespace(
        **{
            f"on_{name}": lambda *values: seen.append(torch.are_deterministic_algorithms_enabled())
            for name in ("start", "step", "part", "evaluate", "sample", "save", "message", "end")
        }
    )
    flags = {**TINY, "train.deterministic": True}
    primer.train(text_file, flags=flags, runs_dir=tmp_path, reporter=reporter)
    assert all(seen)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_plan_stays_within_the_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    from primer.cli.main import main

    assert main(["plan", "default", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["seconds"] <= 2 * 60 + 1 or planned["steps"] == 20
    assert planned["steps"] <= planned["steps_at_most"] == resolve("default").config.train.steps


def test_what_is_not_sound_is_never_saved(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step whose loss is no number leaves no checkpoint and no best score, also where it is the last one."""
    real, step = Trainer.step, {"bad": 4}

    def bad(self: Trainer, *part: Any) -> dict[str, Any] | None:
        row = real(self, *part)
        return row | {"loss": float("nan")} if row and self.progress.step == step["bad"] else row

    monkeypatch.setattr(Trainer, "step", bad)
    run = train(text_file, tmp_path)
    state = checkpoint.load(checkpoint.every(run.directory.checkpoints)[-1]).state
    assert [path.name for path in checkpoint.every(run.directory.checkpoints)] == [
        "step_000000",
        "step_000008",
    ]
    assert state["progress"]["best_step"] == 8
    step["bad"] = 8
    with pytest.raises(DivergedError, match="at the last step") as caught:
        train(text_file, tmp_path)
    assert "step_000004" in str(caught.value.where)


def test_a_launch_goes_on_with_its_own_run(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started again by torchrun: the same choices go on, others begin, what is finished is not trained again."""
    from primer.recipes import run as runs

    for launch in ("first", "second"):
        monkeypatch.setattr(runs, "launch", lambda launch=launch: launch)
        monkeypatch.setattr(runs, "restarted", lambda: False)
        first, second = train(text_file, tmp_path, seed=1), train(text_file, tmp_path, seed=2)
        monkeypatch.setattr(runs, "restarted", lambda: True)
        assert [train(text_file, tmp_path, seed=seed).path for seed in (1, 2)] == [first.path, second.path]
        first.directory.update_facts(status="training")  # it was killed
        checkpoint.shutil.rmtree(checkpoint.step_directory(first.directory.checkpoints, 8))
        again = train(text_file, tmp_path, seed=1)
        assert again.path == first.path
        assert again.directory.read_facts()["resumed"] == [4]


def test_the_text_of_a_run_stays(run: primer.Run, text_file: Path, tmp_path: Path) -> None:
    for flags in ({"seed": 3}, {"data.tokenizer": "byte"}):
        with pytest.raises(UsageError, match="cannot change"):
            primer.resume(run, flags={**flags, "train.steps": 20})
    with pytest.raises(UsageError, match=r"data\.tokenizer"):
        primer.train(text_file, flags={**TINY, "data.tokenizer": "byte"}, runs_dir=tmp_path, init_from=run)


def test_a_text_with_a_long_name_names_its_run(text_file: Path, tmp_path: Path) -> None:
    long = tmp_path / ("é" * 100 + "x" * 40 + ".txt")
    long.write_bytes(text_file.read_bytes())
    assert len(train(long, tmp_path / "runs").path.name) < 80


def test_without_stderr_python_trains_silently(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert train(text_file, tmp_path).directory.read_facts()["status"] == "finished"
