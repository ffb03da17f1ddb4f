"""Two processes train what one process trains: the same tokens in the same order, the same losses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from primer.recipes.directory import find
from primer.training import checkpoint

FLAGS = {
    "model.d-model": 16,
    "model.n-layers": 1,
    "model.n-heads": 2,
    "model.context-length": 16,
    "train.steps": 10,
    "train.batch-size": 8,
    "train.micro-batch": 2,
    "train.evaluate-every": 5,
    "train.sample-every": 0,
    "train.checkpoint-every": 5,
    "train.short-context": 0,
    "train.device": "cpu",
    "train.threads": 1,
    "schedule.warmup": 2,
    "optim.name": "adamw",
    "optim.lr": 1e-3,
}


def primer(count: int, *words: str) -> None:
    """Run `primer` in so many processes."""
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    )
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "primer", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=250,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(600)
def test_one_against_two_processes(tmp_path: Path, text_file: Path) -> None:
    flags = [f"--{name}={value}" for name, value in FLAGS.items()]
    for count in (1, 2):
        primer(count, "train", str(text_file), f"--runs-dir={tmp_path / str(count)}", *flags)
    one, two = (find("latest", tmp_path / str(count)) for count in (1, 2))
    rows = [[row for row in run.metrics.rows() if "loss" in row] for run in (one, two)]
    assert [row["tokens"] for row in rows[0]] == [row["tokens"] for row in rows[1]]
    for name, allowed in (("loss", 4e-6), ("grad_norm", 4e-5)):
        differences = [abs(a[name] - b[name]) for a, b in zip(*rows, strict=True)]
        assert max(differences) < allowed, name
    scores = [[row["val_loss"] for row in run.metrics.rows() if "val_loss" in row] for run in (one, two)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)

    # what two processes saved, one can go on with, and the other way round
    losses = []
    for run, count in ((one, 2), (two, 1)):
        primer(count, "resume", str(run.path), "--train.steps=13")
        losses.append([row["loss"] for row in run.metrics.rows() if "loss" in row])
        last = checkpoint.follow(run.checkpoints, "latest")
        assert last is not None
        state = json.loads((last / "state.json").read_text())
        assert state["world_size"] == count
        assert len(state["generators"]) == count
    assert len(losses[0]) == 13
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
