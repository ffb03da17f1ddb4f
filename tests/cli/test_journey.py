"""One tiny run through every verb, as a user would type it."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from primer.cli.main import main
from primer.config import from_dict
from primer.recipes.config import RunConfig
from primer.recipes.resolve import recipes, resolve

SMALL = [
    "--model.d-model=16", "--model.n-layers=1", "--model.n-heads=2", "--model.context-length=16",
    "--model.ngram.orders=", "--train.short-context=0", "--train.batch-size=4", "--train.micro-batch=4",
    "--train.threads=1", "--train.evaluate-every=4", "--train.sample-every=4", "--train.checkpoint-every=4",
    "--train.compile=off", "--schedule.warmup=2", "--sample.tokens=20",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journey")
    (folder / "poem.txt").write_text("The sun did not shine. It was too wet to play.\n" * 60)
    return folder


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """A finished run of eight steps."""
    words = ["train", str(place / "poem.txt"), "--train.steps=8", f"--runs-dir={place / 'runs'}", *SMALL]
    assert main(words) == 0
    (run,) = (place / "runs").iterdir()
    return run


def said_by(capsys, *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(list(words)) == code
    return capsys.readouterr().out


def test_training_prints_the_runs_path_and_nothing_else(place: Path, capsys) -> None:
    runs = place / "other"
    words = ["train", str(place / "poem.txt"), "--train.steps=2", f"--runs-dir={runs}", *SMALL]
    assert main(words) == 0
    out, err = capsys.readouterr()
    (run,) = runs.iterdir()
    assert out == f"{run}\n"
    assert "step 2/2" in err
    assert "primer sample" in err


def test_the_config_that_was_asked_for_is_the_one_that_ran(trained: Path) -> None:
    config = from_dict(RunConfig, tomllib.loads((trained / "config.toml").read_text()))
    assert (config.model.d_model, config.train.steps, config.model.ngram.orders) == (16, 8, ())


def test_print_config_says_where_each_value_came_from(capsys, tmp_path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('base = "lecture"\n[train]\nsteps = 77\n')
    said = said_by(capsys, "train", str(recipe), "--optim.lr=1e-4", "--print-config")
    origins = {
        line.partition(" = ")[0]: line.rpartition("  # ")[2] for line in said.splitlines() if " = " in line
    }
    assert origins["steps"] == str(recipe)
    assert origins["lr"] == "flag"
    assert origins["n_layers"] == "recipe lecture"
    assert origins["keep"] == "default"
    resolved = resolve(recipe, flags={"optim.lr": 1e-4}).config
    assert from_dict(RunConfig, tomllib.loads(said)) == resolved


def test_sampling(trained: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    one = said_by(capsys, "sample", str(trained), "The ", "--tokens=12", "--seed=3")
    assert one.startswith("The ")
    assert len(one) == len("The ") + 12 + 1
    assert said_by(capsys, "sample", str(trained), "The ", "--tokens=12", "--seed=3", "--no-cache") == one
    found = json.loads(said_by(capsys, "sample", str(trained), "The ", "--tokens=12", "--n=3", "--json"))
    assert found["prompt"] == "The "
    assert [len(sample) for sample in found["samples"]] == [12, 12, 12]
    several = said_by(capsys, "sample", str(trained), "The ", "--tokens=12", "--n=2")
    assert several.startswith("-- 1\nThe ")
    assert "-- 2\nThe " in several


class Piped:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)
        self.readline = io.TextIOWrapper(io.BytesIO(content)).readline

    def isatty(self) -> bool:
        return False


def test_a_prompt_through_a_pipe(trained: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", Piped(b"It was"))
    assert said_by(capsys, "sample", str(trained), "--tokens=5").startswith("It was")
    monkeypatch.setattr(sys, "stdin", Piped(b""))
    assert said_by(capsys, "sample", str(trained), "--tokens=5")
    monkeypatch.setattr(sys, "stdin", Piped(b"It \xff"))
    assert main(["sample", str(trained)]) == 4
    assert "the prompt is not UTF-8 at byte 3" in capsys.readouterr().err


def test_a_pipe_that_is_silent_is_waited_for_with_a_word(trained: Path, capsys, monkeypatch) -> None:
    import threading

    from primer.cli import stdin as piping

    reading, writing = os.pipe()
    monkeypatch.setattr(piping, "PATIENCE", 0.0)
    late = threading.Timer(0.2, lambda: (os.write(writing, b"It was"), os.close(writing)))
    with open(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        late.start()
        assert main(["sample", str(trained), "--tokens=5"]) == 0
    late.join()
    out, err = capsys.readouterr()
    assert out.startswith("It was")
    assert "waiting for a prompt on stdin" in err


def test_a_conversation_with_damaged_weights_ends_at_once(
    trained: Path, capsys, monkeypatch, tmp_path
) -> None:
    run = shutil.copytree(trained, tmp_path / trained.name)
    for file in run.glob("checkpoints/*/model.safetensors"):
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    monkeypatch.setattr(sys, "stdin", Piped(b"It was\nIt was\n"))
    assert main(["sample", str(run), "--interactive"]) == 4
    assert capsys.readouterr().err.count("SHA-256") == 1


def test_a_prompt_with_a_character_that_was_never_seen(trained: Path, capsys) -> None:
    assert main(["sample", str(trained), "☃"]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert "U+2603" in err
    assert "where:  the prompt" in err
    assert "--data.unknown" not in err


def test_a_conversation_goes_on_after_a_mistake(trained: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", Piped("The sun\n☃\nIt\n".encode()))
    out = said_by(capsys, "sample", str(trained), "--interactive", "--tokens=5")
    assert out.startswith("The sun")
    assert "\nIt" in out


def test_evaluation(trained: Path, place: Path, capsys) -> None:
    found = json.loads(said_by(capsys, "eval", str(trained), "--json"))
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    best = min(row["val_loss"] for row in rows if "val_loss" in row)
    assert found["loss"] == pytest.approx(best, rel=1e-5)
    text = said_by(capsys, "eval", str(trained), f"--on={place / 'poem.txt'}")
    assert text.startswith("loss  ")
    assert f"tokens of {place / 'poem.txt'}" in text
    assert main(["eval", str(trained), "--on=missing.txt"]) == 4


def test_looking_at_runs(trained: Path, capsys, tmp_path) -> None:
    folder = f"--runs-dir={trained.parent}"
    (found,) = json.loads(said_by(capsys, "runs", "list", "--json", folder))
    assert (found["id"], found["step"], found["steps"]) == (trained.name[-6:], 8, 8)
    assert found["status"] == "finished"
    listed = said_by(capsys, "runs", folder).splitlines()
    assert listed[0].split()[:2] == ["id", "recipe"]
    assert listed[1].split()[0] == found["id"]
    shown = said_by(capsys, "runs", "show", "latest", folder)
    assert "8/8" in shown
    assert "training" in shown
    whole = json.loads(said_by(capsys, "runs", "show", found["id"], folder, "--json"))
    assert whole["config"]["model"]["d_model"] == 16
    assert [row["step"] for row in whole["metrics"] if "loss" in row] == list(range(1, 9))
    picture = tmp_path / "both.svg"
    assert "validation" in said_by(
        capsys, "runs", "compare", "latest", str(trained), folder, f"--plot={picture}"
    )
    assert picture.stat().st_size > 1000


def test_a_finished_run_can_go_on(trained: Path, place: Path, capsys) -> None:
    folder = f"--runs-dir={place / 'runs'}"
    assert main(["resume", trained.name[-6:], folder]) == 2
    assert "--train.steps=16" in capsys.readouterr().err
    assert said_by(capsys, "resume", trained.name[-6:], folder, "--train.steps=10") == f"{trained}\n"


def test_removing_asks_first(place: Path, trained: Path, capsys, monkeypatch) -> None:
    copy = place / "removable"
    words = ["train", str(place / "poem.txt"), "--train.steps=2", f"--runs-dir={copy}", *SMALL]
    assert main(words) == 0
    (run,) = copy.iterdir()
    monkeypatch.setattr(sys, "stdin", Piped(b""))
    assert main(["runs", "rm", "latest", f"--runs-dir={copy}"]) == 2
    assert "--yes" in capsys.readouterr().err
    for answer, stays in (("n\n", True), ("\n", True), ("y\n", False)):
        stdin = io.StringIO(answer)
        stdin.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stdin", stdin)
        assert main(["runs", "rm", "latest", f"--runs-dir={copy}"]) == 0
        assert run.exists() == stays
    assert list(copy.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_says_how_to_go_on_and_has_its_code(place: Path, number: int, code: int) -> None:
    words = [sys.executable, "-m", "primer", "train", str(place / "poem.txt"), "--train.steps=1000000"]
    words += [f"--runs-dir={place / f'signal-{number}'}", *SMALL]
    training = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert training.stderr is not None
    for line in training.stderr:
        if line.startswith("step 4/"):
            training.send_signal(number)
            break
    out, err = training.communicate()
    assert training.returncode == code
    assert out == ""
    assert "stopped: after step" in err
    (run,) = (place / f"signal-{number}").iterdir()
    assert f"try:    primer resume {run}" in err
    assert (run / "checkpoints" / "latest").exists()


def test_no_runs_yet(tmp_path, capsys) -> None:
    assert main(["runs", "list", f"--runs-dir={tmp_path}"]) == 0
    out, err = capsys.readouterr()
    assert (out, "primer train" in err) == ("", True)
    assert said_by(capsys, "runs", "list", "--json", f"--runs-dir={tmp_path}") == "[]\n"


def test_a_plan(capsys, monkeypatch) -> None:
    from primer import device

    monkeypatch.setattr(device, "matmul_rate", lambda *_: 1e11)
    every = said_by(capsys, "plan")
    assert [line.split()[0] for line in every.splitlines()[1 : 1 + len(recipes())]] == recipes()
    one = json.loads(said_by(capsys, "plan", "lecture", "--model.vocab-size=65", "--json"))
    assert one["parameters"] == 6_650_945  # counted from the lecture's own script
    assert one["tokens"] == 5000 * 64 * 256
    assert one["seconds"] == pytest.approx(one["flops_per_token"] * one["tokens"] / 6e10)
    assert "assumed" in said_by(capsys, "plan", "lecture")


def test_the_doctor(capsys, monkeypatch) -> None:
    from primer import device

    found = json.loads(said_by(capsys, "doctor", "--device=cpu", "--threads=1", "--json"))
    assert found["threads"] == 1
    assert all(check["ok"] for check in found["checks"])
    assert found["matmul_flops"] > 1e6
    monkeypatch.setattr(device, "matmul_rate", lambda *_: 1.5e11)
    monkeypatch.setattr(device, "memory_bandwidth", lambda *_: 2e10)
    monkeypatch.setattr(device, "self_check", lambda _: [device.Check("softmax", 0.5, 1e-6)])
    assert main(["doctor", "--device=cpu"]) == 3
    out, err = capsys.readouterr()
    assert "150 GFLOP/s in float32" in out
    assert "softmax is off by 5.0e-01" in out
    assert "cpu computes wrongly: softmax" in err
