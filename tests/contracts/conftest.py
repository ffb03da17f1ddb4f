"""Real processes in bad surroundings, quickly: forked from one that has torch loaded (`forks.py`)."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from primer.recipes.directory import RunDirectory

QUICK = (
    "--model.d-model=16", "--model.n-layers=1", "--model.n-heads=2", "--model.context-length=16",
    "--model.ngram.orders=", "--model.pattern-dropout=0.1", "--optim.name=adamw", "--train.short-context=0",
    "--train.batch-size=4", "--train.micro-batch=4", "--train.threads=1", "--train.evaluate-every=10",
    "--train.sample-every=10", "--train.checkpoint-every=4", "--train.compile=off", "--train.device=cpu",
    "--train.minutes=0", "--schedule.warmup=2", "--sample.tokens=8", "--sample.prompt=two",
)  # fmt: skip
"""Flags of a training that takes a moment."""


@dataclass(frozen=True)
class Done:
    """How a process ended: its exit code, those of each of its commands, and what it said."""

    code: int
    codes: list[int]
    out: str
    err: str


@dataclass
class Process:
    """A `primer` at work."""

    pid: int
    said: str
    ask: Callable[[dict[str, Any]], dict[str, int]]

    def wait(self) -> Done:
        """Until it has ended. A test is skipped where its surroundings could not be made."""
        code = self.ask({"wait": self.pid})["code"]
        out, err, codes = (Path(self.said + end) for end in (".out", ".err", ".codes"))
        done = Done(
            code, json.loads(codes.read_text() or "[]"), out.read_text("utf-8"), err.read_text("utf-8")
        )
        if code == 77:
            pytest.skip(f"such surroundings cannot be made here: {done.err.strip()}")
        assert code != 99, done.err
        return done


class Primer:
    """Starts `primer` with words as a user would type them."""

    def __init__(self, server: "subprocess.Popen[str]", folder: Path) -> None:
        self.server, self.folder, self.count = server, folder, itertools.count()

    def ask(self, order: dict[str, Any]) -> dict[str, int]:
        """Send an order to the process that forks, and read its answer."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        answer = self.server.stdout.readline()
        assert answer, "the process that forks has died"
        found: dict[str, int] = json.loads(answer)
        return found

    def start(
        self,
        *commands: list[str],
        cwd: Path,
        environment: dict[str, str | None] | None = None,
        **surroundings: Any,
    ) -> Process:
        """Run commands one after the other in one process.

        surroundings, until the second command: file_size (bytes of the largest file), memory (bytes above what the
        process has), tmpfs (options of a small file system at `cwd`), deny_after and errno (how many writes go well,
        and what the others end with). For all commands: powerless (a superuser without its rights), keep (where to
        copy `cwd` to at the end).
        """
        said = str(self.folder / f"{next(self.count):04d}")
        order = {"commands": commands, "cwd": str(cwd), "said": said, "environment": environment or {}}
        return Process(self.ask({**order, **surroundings})["pid"], said, self.ask)

    def __call__(self, *commands: list[str], cwd: Path, **surroundings: Any) -> Done:
        """Run commands, and wait for their end."""
        return self.start(*commands, cwd=cwd, **surroundings).wait()


@pytest.fixture(scope="session")
def primer_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Primer]:
    """Starts real processes (`Primer.start`) without waiting for torch every time."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs fork, /proc and Linux's limits")
    cache = tmp_path_factory.mktemp("cache")
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forks.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)},
    )
    with server:
        yield Primer(server, tmp_path_factory.mktemp("said"))
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    """Flags of a training that takes a moment."""
    return QUICK


def wait_for_step(runs: Path, step: int, process: Process, seconds: float = 60) -> None:
    """Until a run below `runs` has recorded a step."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for metrics in runs.glob("*/metrics.jsonl"):
            if any(row["step"] >= step for row in RunDirectory(metrics.parent).metrics.rows()):
                return
        time.sleep(0.002)
    os.kill(process.pid, 9)
    pytest.fail(f"no step {step} within {seconds} s: {process.wait().err}")


@pytest.fixture(scope="session")
def reach() -> Callable[..., None]:
    """`wait_for_step`."""
    return wait_for_step
