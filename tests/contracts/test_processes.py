"""Two processes train what one process trains: the same tokens in the same order, the same losses."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from primer.recipes.directory import RunDirectory, find
from primer.training import checkpoint
from setups import TINY_PAIRS, reversed_digits

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


Together = Callable[..., None]
"""Runs `primer` with some words in so many processes."""

LOADED = (
    "primer.cli.resume", "primer.recipes.translating", "sacrebleu", "numba", "numpy.random", "torch._dynamo",
    "torch._inductor", "torch.distributed.fsdp", "torch.distributed.nn",
)  # fmt: skip
"""What several processes would each load otherwise, which takes them longer than their training."""


def port() -> int:
    """One that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free: int = server.getsockname()[1]
        return free


def places(count: int) -> list[dict[str, str]]:
    """What torchrun tells each of so many processes in its environment; one alone is told nothing."""
    shared = {
        "WORLD_SIZE": count,
        "LOCAL_WORLD_SIZE": count,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port(),
    }
    told = [{"RANK": rank, "LOCAL_RANK": rank, **shared} for rank in range(count)] if count > 1 else [{}]
    return [{name: str(value) for name, value in place.items()} for place in told]


@pytest.fixture(scope="session")
def primer(primer_process: Any, tmp_path_factory: pytest.TempPathFactory) -> Together:
    """Processes that are told their places as torchrun tells them, but need not wait for torch each.

    Those that torchrun starts are below, where some are killed.
    """
    primer_process.ask({"import": LOADED})
    anywhere = tmp_path_factory.mktemp("together")

    def together(count: int, *words: str) -> None:
        started = [primer_process.start([*words], cwd=anywhere, environment=told) for told in places(count)]
        overdue = threading.Timer(250, lambda: [os.kill(each.pid, signal.SIGKILL) for each in started])
        overdue.start()  # where one has failed, the others may wait for it
        ended = [each.wait() for each in started]
        overdue.cancel()
        assert [each.code for each in ended] == [0] * count, "".join(each.err for each in ended)

    return together


TIED = {"model.tied-head": True, "model.zero-init-head": False, "train.weight-average": 0.9}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "more",
    [
        {"train.parallel": "ddp"},
        {"train.parallel": "fsdp", **TIED},
        {"train.parallel": "fsdp", "optim.name": "muon", "train.sample-every": 5, "sample.tokens": 20},
        # wide enough for the fused loops, and a format whose steps are too fine to make a loss of a last bit
        {"train.parallel": "fsdp", "precision.matmul": "tf32", "model.d-model": 64},
    ],
    ids=["whole models", "sharded, tied", "sharded, Muon", "sharded, in a format"],
)
def test_one_against_two_processes(
    tmp_path: Path, text_file: Path, primer: Together, more: dict[str, object]
) -> None:
    flags = [f"--{name}={value}" for name, value in {**FLAGS, **more}.items()]
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


PAIRS = {
    **TINY_PAIRS,
    "model.dropout": 0.0,
    "train.steps": 10,
    "train.micro_tokens": 40,
    "train.evaluate_every": 5,
    "train.checkpoint_every": 5,
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "more",
    [
        {"train.parallel": "ddp"},
        {"train.parallel": "fsdp", "optim.name": "muon"},
        {"train.parallel": "ddp", "train.batch_tokens": 1},
        {"train.parallel": "fsdp", "train.batch_tokens": 1},
    ],
    ids=["whole models", "sharded, Muon", "a pair a batch", "sharded, a pair a batch"],
)
def test_one_against_two_processes_on_pairs(
    tmp_path: Path, primer: Together, more: dict[str, object]
) -> None:
    """Batches whose rows do not come out even, pieces of different lengths: the same losses and translations."""
    source = reversed_digits(tmp_path)
    flags = [f"--{name}={value}" for name, value in {**PAIRS, **more, "data.source": source}.items()]
    for count in (1, 2):
        primer(count, "train", "translation", f"--runs-dir={tmp_path / str(count)}", *flags)
    one, two = (find("latest", tmp_path / str(count)) for count in (1, 2))
    rows = [[row for row in run.metrics.rows() if "loss" in row] for run in (one, two)]
    assert [row["tokens"] for row in rows[0]] == [row["tokens"] for row in rows[1]]
    for name, allowed in (("loss", 4e-6), ("grad_norm", 4e-5)):
        assert max(abs(a[name] - b[name]) for a, b in zip(*rows, strict=True)) < allowed, name
    for name in ("val_loss", "val_exact", "val_bleu", "val_word_perplexity"):
        scores = [[row[name] for row in run.metrics.rows() if name in row] for run in (one, two)]
        assert len(scores[0]) == 2
        assert scores[0] == pytest.approx(scores[1], rel=1e-5), name
    assert one.samples.rows() == two.samples.rows()
    primer(
        2, "resume", str(one.path), "--train.steps=12"
    )  # a rounding that Muon makes larger is no larger yet
    primer(1, "resume", str(two.path), "--train.steps=12")
    assert losses_of(one) == pytest.approx(losses_of(two), abs=1e-5)


ENDING = """
import json, os, sys
from pathlib import Path
import primer

folder, text, cases = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
held = []
for name, (port, flags) in cases.items():
    os.environ["MASTER_PORT"] = str(port)
    try:
        primer.train(text, flags=flags, runs_dir=folder / "runs")
        ended = "finished"
    except primer.errors.DivergedError as error:
        ended = "diverged"
        held.append(error)  # and with it every frame that it came through
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    (folder / f"{name}_{os.environ['RANK']}").write_text(" ".join([ended, *names]))
"""
ENDS = [
    (lr, ended, parallel)
    for parallel in ("ddp", "fsdp")
    for lr, ended in ((1e-3, "finished"), (1e30, "diverged"))
]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have told of their threads after each of several trainings, and then ended well."""
    place = tmp_path_factory.mktemp("ends")
    (place / "ending.py").write_text(ENDING)
    (place / "text.txt").write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(300)))
    flags = {name.replace("-", "_"): value for name, value in FLAGS.items()}
    flags |= {"optim.clip": 0.0, "train.patience": 3}
    cases = {
        f"{parallel}_{ended}": (port(), {**flags, "optim.lr": lr, "train.parallel": parallel})
        for lr, ended, parallel in ENDS
    }
    command = [sys.executable, place / "ending.py", place, place / "text.txt", json.dumps(cases)]
    started = [
        subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1", **told})
        for told in places(2)
    ]
    try:
        said = [each.communicate(timeout=250)[1].decode() for each in started]
    finally:
        for each in started:
            each.kill()
    assert [each.returncode for each in started] == [0, 0], "".join(said)
    return place


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the threads under /proc")
@pytest.mark.parametrize(("lr", "ended", "parallel"), ENDS)
def test_no_thread_of_the_group_outlives_the_training(
    lr: float, ended: str, parallel: str, ends: Path
) -> None:
    """One that did could let go of a tensor while the interpreter was ending, and abort the process."""
    for rank in range(2):
        said = (ends / f"{parallel}_{ended}_{rank}").read_text()
        assert said.startswith(f"{ended} python")
        assert "gloo" not in said


KILLED = {**FLAGS, "train.steps": 120, "train.checkpoint-every": 20, "train.evaluate-every": 40}


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory, primer: Together) -> tuple[list[str], list[float]]:
    """The words of a training by two processes, and its losses where nobody is killed."""
    place = tmp_path_factory.mktemp("longer")
    text = place / "text.txt"
    text.write_text("".join(f"{n} times {n} is {n * n}.\n" for n in range(300)))
    words = ["train", str(text), *(f"--{name}={value}" for name, value in KILLED.items())]
    primer(2, *words, f"--runs-dir={place / 'runs'}")
    return words, losses_of(find("latest", place / "runs"))


def losses_of(run: RunDirectory) -> list[float]:
    return [row["loss"] for row in run.metrics.rows() if "loss" in row]


@pytest.mark.timeout(600)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes under /proc")
@pytest.mark.parametrize(
    "deaths",
    [
        [(3, 0), (50, 1), (81, 0)],
        *(
            pytest.param([(at, at % 2)], marks=pytest.mark.slow)
            for at in random.Random(1).sample(range(110), 27)
        ),
    ],
    ids=lambda deaths: " ".join(f"{at}-{rank}" for at, rank in deaths),
)
def test_a_rank_that_is_killed_is_started_again(
    deaths: list[tuple[int, int]], tmp_path: Path, longer: tuple[list[str], list[float]]
) -> None:
    """torchrun starts all processes again, and they go on with their run as if nothing had happened."""
    words, losses = longer
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    again = [f"--max-restarts={len(deaths)}", "-m", "primer"]
    with open(tmp_path / "said", "wb") as said:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [*launcher, *again, *words, f"--runs-dir={tmp_path / 'killed'}"]
        launched = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        try:
            for at, rank in deaths:
                steps = -1
                while steps < at and launched.poll() is None:
                    time.sleep(0.01)
                    files = list((tmp_path / "killed").glob("*/metrics.jsonl"))
                    steps = len(files[0].read_bytes().splitlines()) if files else -1
                children = Path(f"/proc/{launched.pid}/task/{launched.pid}/children").read_text().split()
                os.kill(int(children[rank]), signal.SIGKILL)
            assert launched.wait(timeout=300) == 0, (tmp_path / "said").read_text()
        finally:
            launched.kill()
            launched.wait()
    (directory,) = [path for path in (tmp_path / "killed").iterdir() if path.is_dir()]
    run = RunDirectory(directory)
    assert len(run.read_facts()["resumed"]) == len(deaths)
    assert losses_of(run) == losses
