"""The same jobs under Ray, and under a Slurm of our own that queues scripts and runs them: the same bytes.

Nothing here is a real cluster. What is shown of Slurm is that the scripts that datatrove writes for us make the corpus,
run in the order of their dependencies by processes that know nothing of the one that submitted them.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from crawls import archive, record, records
from primer.corpus.refine.jobs import JOBS, is_done, tasks
from primer.corpus.refine.kept import Corpus, is_finished
from primer.corpus.refine.plan import Plan, keep, make
from primer.corpus.refine.recipe import resolve
from primer.corpus.refine.run import run
from primer.corpus.refine.workers import Workers
from primer.errors import PrimerError

pytest.importorskip("datatrove", reason="the engines are of the extra [cluster]")

from primer.corpus.refine import engine

SBATCH = """
import json, os, pathlib, shutil, sys
*options, script = sys.argv[1:]
for line in pathlib.Path(script).read_text().splitlines():
    if line.startswith("#SBATCH") and "=" not in line and line != "#SBATCH --requeue":
        sys.exit(f"sbatch: error: {line}: an option that requires an argument")
queue = pathlib.Path(os.environ["QUEUE"])
number = 1000 + len(list(queue.iterdir())) // 2
shutil.copy(script, queue / f"{number}.sh")
(queue / f"{number}.json").write_text(json.dumps(options))
print("Submitted batch job", number)
"""
SRUN = 'while [ "${1#-}" != "$1" ]; do [ "$1" = -n ] && shift; shift; done\nexec "$@"\n'
SCONTROL = '[ "$1 $2" = "show hostnames" ] && echo "$3"\n'

LAUNCH = """
import sys
from pathlib import Path
from primer.corpus.refine import engine, plan
if __name__ == "__main__":
    engine.launch(plan.open_plan(Path(sys.argv[1])), sys.argv[2], 2)
"""


def bytes_of(out: Path) -> dict[str, str]:
    """SHA-256 of every file that a reader looks at."""
    files = [*out.glob("kept/*"), *out.glob("dropped/*/*")]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def planned(inputs: Sequence[Path], out: Path) -> Plan:
    return make(resolve("fineweb-fast").config, inputs, out, lambda *_: None)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], dict[str, str]]:
    """Three archives of which each is a unit of its own, and what the plain run makes of them."""
    folder = tmp_path_factory.mktemp("three")
    inputs = []
    for number in range(3):
        noise = random.Random(number).randbytes(600_000)  # so that files are large, and units several
        heavy = record(f"http://noise.example/{number}", noise, content_type="application/octet-stream")
        inputs.append(archive(folder / "crawl" / f"{number}.warc.gz", [*records(50 * number, 2), heavy]))
    plan = planned(inputs, folder / "out")
    assert len(plan.units) == 3
    run(plan, 1)
    return inputs, bytes_of(folder / "out")


class Slurm:
    """Programs of Slurm's names on a PATH, a queue of what was submitted, and a machine that works it off."""

    def __init__(self, folder: Path) -> None:
        self.queue, self.programs = folder / "queue", folder / "programs"
        for each in (self.queue, self.programs):
            each.mkdir()
        self._program("sbatch", f"#!{sys.executable}\n{SBATCH}")
        self._program("srun", f"#!/bin/sh\n{SRUN}")
        self._program("scontrol", f"#!/bin/sh\n{SCONTROL}")
        python = Path(sys.executable).parent  # as it is where an environment was activated
        self.path = f"{self.programs}{os.pathsep}{python}{os.pathsep}{os.environ['PATH']}"

    def _program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def submitted(self) -> dict[int, tuple[str, list[str]]]:
        """(script, options) by number, of the jobs of pipelines."""
        found = {int(path.stem): path.read_text() for path in sorted(self.queue.glob("*.sh"))}
        options = {number: json.loads((self.queue / f"{number}.json").read_text()) for number in found}
        return {
            number: (text, options[number]) for number, text in found.items() if "merge_stats" not in text
        }

    def work(self) -> None:
        """Each array's tasks all at once, the last first, each array after the one that it depends on."""
        done: set[str] = set()
        for number, (text, options) in self.submitted().items():
            needed = [each.rpartition(":")[2] for each in options if each.startswith("--dependency=")]
            assert set(needed) == ({max(done)} if done else set()), "each after the one before it"
            (last,) = [int(line.rpartition("-")[2]) for line in text.splitlines() if "--array=" in line]
            processes = [self._start(number, task) for task in range(last, -1, -1)]
            for process in processes:
                out, _ = process.communicate(timeout=120)
                assert process.returncode == 0, out.decode()
            done.add(str(number))

    def _start(self, number: int, task: int) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PATH": self.path,
            "RUN_OFFSET": "0",
            "SLURM_JOB_ID": str(number),
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_NODELIST": "here",
        }
        script = str(self.queue / f"{number}.sh")
        return subprocess.Popen(
            ["bash", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    found = Slurm(tmp_path)
    monkeypatch.setenv("PATH", found.path)
    monkeypatch.setenv("QUEUE", str(found.queue))
    return found


def test_a_slurm_makes_the_same(
    three: tuple[list[Path], dict[str, str]], tmp_path: Path, slurm: Slurm
) -> None:
    inputs, expected = three
    plan = planned(inputs, tmp_path / "out")
    engine.launch(plan, "slurm", 2, partition="cpu", time="1:00:00")
    assert not (plan.out / "kept").exists(), "submitting is all that it does"
    assert [text.count("--partition=cpu\n") for text, _ in slurm.submitted().values()] == [1] * 4
    slurm.work()
    assert bytes_of(plan.out) == expected
    assert sum(1 for _ in Corpus.open(plan.out).documents()) > 0
    assert run(plan, 1).done == dict.fromkeys(JOBS, 0), "and nothing is left to do"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Sockets lie in it, whose paths may have no more than a hundred characters."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_ray_makes_the_same(
    three: tuple[list[Path], dict[str, str]], tmp_path: Path, short_folder: Path
) -> None:
    pytest.importorskip("ray", reason="ray is of the extra [cluster]")
    inputs, expected = three
    plan = planned(inputs, tmp_path / "out")
    keep(plan)
    (tmp_path / "launch.py").write_text(LAUNCH)
    environment = {**os.environ, "TMPDIR": str(short_folder), "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "launch.py"), str(plan.out), "ray"],
        capture_output=True,
        env=environment,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert bytes_of(plan.out) == expected


class Executor:
    """Does nothing, and like datatrove's has what it needs done first."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.name, self.depends = name, options["depends"]
        self.step, self.ranks = options["pipeline"][0], options["tasks"]
        self.ran = 0

    def run(self) -> None:
        if self.depends and not self.depends.ran:
            self.depends.run()
        self.ran += 1


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> list[Executor]:
    """Executors that are asked and do nothing, as Ray's and Slurm's do where their tasks fail elsewhere."""
    found: list[Executor] = []

    def made(kind: str, name: str, count: int, options: dict[str, Any]) -> Executor:
        found.append(Executor(name, options))
        return found[-1]

    monkeypatch.setattr(engine, "_executor", made)
    return found


def test_phases_are_done_in_their_order_by_as_many_ranks_as_have_something_to_do(
    three: tuple[list[Path], dict[str, str]], tmp_path: Path, idle: list[Executor]
) -> None:
    plan = planned(three[0], tmp_path / "out")
    found = engine.executors(plan, "local", 8)
    assert found == idle
    assert [each.name for each in found] == [
        "primer-annotate",
        "primer-match",
        "primer-cluster",
        "primer-finish",
    ]
    assert [each.ranks for each in found] == [3, 8, 1, 3]
    assert [each.depends for each in found] == [None, *found[:-1]]
    assert [job for each in found for job in each.step.jobs] == list(JOBS)


def test_every_task_is_one_ranks_and_what_is_done_is_left(
    three: tuple[list[Path], dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(three[0], tmp_path / "out")
    keep(plan)
    asked: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(Workers, "run", lambda self, job, names, *_: asked.append((job, list(names))))
    for ranks in (1, 2, 3, 5):
        asked.clear()
        for rank in range(ranks):
            engine.Step(plan.out, ["annotate"]).run(rank=rank, world_size=ranks)
        assert sorted(name for _, names in asked for name in names) == sorted(tasks(plan, "annotate"))
        assert len(asked) == min(ranks, 3)
    asked.clear()
    monkeypatch.setattr(engine, "is_done", lambda plan, job, task: task != tasks(plan, job)[1])
    engine.Step(plan.out, ["annotate", "select"]).run()
    assert asked == [(job, tasks(plan, job)[1:2]) for job in ("annotate", "select")]
    assert not is_done(plan, "annotate", tasks(plan, "annotate")[0])


def test_tasks_that_failed_elsewhere_are_an_error(
    three: tuple[list[Path], dict[str, str]], tmp_path: Path, idle: list[Executor]
) -> None:
    plan = planned(three[0], tmp_path / "out")
    with pytest.raises(PrimerError, match="not done"):
        engine.launch(plan, "local", 2)
    assert [each.ran for each in idle] == [1, 0, 0, 0], "nothing is begun that needs what is not there"
    assert not is_finished(plan)


def test_a_slurm_job_finds_this_python_whatever_was_activated(
    three: tuple[list[Path], dict[str, str]], tmp_path: Path
) -> None:
    plan = planned(three[0], tmp_path / "out")
    (first, *_) = engine.executors(plan, "slurm", 2, partition="cpu", time="1:00:00")
    script = first.get_launch_file_contents({}, "command -v launch_pickled_pipeline")
    done = subprocess.run(["bash", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True)
    assert done.returncode == 0
    assert Path(done.stdout.decode().split()[-1]).parent == Path(sys.executable).parent


def test_slurm_without_a_partition_is_refused(
    three: tuple[list[Path], dict[str, str]], tmp_path: Path, slurm: Slurm
) -> None:
    plan = planned(three[0], tmp_path / "out")
    with pytest.raises(PrimerError, match="partition"):
        engine.launch(plan, "slurm", 2, partition="", time="1:00:00")
    assert not slurm.submitted()
