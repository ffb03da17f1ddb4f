"""A run survives what its surroundings do to it: it ends with the right code and words, and it can go on."""

import errno
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from primer.data.prepare import prepare
from primer.data.shards import ShardDirectory
from primer.recipes.directory import RunDirectory, find
from primer.tokens import BPETokenizer
from primer.training import checkpoint

STEPS = 26
LONG = pytest.mark.slow


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "table.txt"
    file.write_text("".join(f"{a} times {b} is {a * b}, two\n" for a in range(30) for b in range(30)))
    return file


@pytest.fixture(scope="module")
def train(text: Path, quick: tuple[str, ...]) -> list[str]:
    """The words that start the training of every test here."""
    return ["train", str(text), f"--train.steps={STEPS}", "--runs-dir=runs", *quick]


RESUME = ["resume", "latest", "--runs-dir=runs"]


def left_by(run: RunDirectory) -> dict[str, Any]:
    """All that must not depend on what happened on the way."""
    path = checkpoint.follow(run.checkpoints, "latest")
    assert path is not None
    saved = checkpoint.load(path)
    kept = ("step", "tokens", "loss", "grad_norm", "val_loss")
    tensors = {**saved.model, **saved.optim}
    return {
        "tensors": {name: tensor.numpy().tobytes() for name, tensor in tensors.items()},
        "rows": [{key: row[key] for key in kept if key in row} for row in run.metrics.rows()],
        "samples": run.samples.rows(),
        "state": {key: value for key, value in saved.state.items() if key != "progress"},
        "files": sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*")),
        "status": run.read_facts()["status"],
    }


@pytest.fixture(scope="module")
def whole(primer_process: Any, train: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run leaves that nothing happened to."""
    place = tmp_path_factory.mktemp("whole")
    assert primer_process(train, cwd=place).code == 0
    return left_by(find("latest", place / "runs"))


def last_words(err: str) -> list[str]:
    """What was said about the error, which is never a traceback."""
    assert "Traceback" not in err
    lines = err.splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(("error:", "stopped:"))]
    assert len(lines) - start <= 3
    return lines[start:]


def moments(count: int, seed: int) -> list[int]:
    """Steps at which something happens, in no order."""
    return random.Random(seed).sample(range(1, STEPS - 4), count)


SIGNALS = {
    "term": [signal.SIGTERM],
    "int": [signal.SIGINT],
    "int twice": [signal.SIGINT] * 2,
    "hup": [signal.SIGHUP],
}


@pytest.mark.parametrize(
    ("name", "step"),
    [
        *((name, moments(1, seed)[0]) for seed, name in enumerate(SIGNALS)),
        *(
            pytest.param(name, step, marks=LONG)
            for seed, name in enumerate(SIGNALS)
            for step in moments(10, 9 + seed)
        ),
    ],
)
def test_a_signal_at_any_step_saves_and_changes_nothing(
    name: str,
    step: int,
    primer_process: Any,
    reach: Any,
    train: list[str],
    whole: dict[str, Any],
    tmp_path: Path,
) -> None:
    training = primer_process.start(train, cwd=tmp_path)
    reach(tmp_path / "runs", step, training)
    for number in SIGNALS[name]:
        os.kill(training.pid, number)
    done = training.wait()
    run = find("latest", tmp_path / "runs")
    assert done.code == 128 + SIGNALS[name][0]
    assert "Traceback" not in done.err
    assert "stopped: " in done.err
    if name != "int twice":  # the second one may come at any moment, and leaves at once
        cause, _, hint = last_words(done.err)
        reached = run.metrics.rows()[-1]["step"]
        assert reached >= step
        assert cause == f"stopped: after step {reached}, which is saved"
        assert hint == f"try:    primer resume {run.id}"
        assert run.read_facts()["status"] == "stopped"
        latest = checkpoint.follow(run.checkpoints, "latest")
        assert latest is not None
        assert checkpoint.load(latest).state["step"] == reached
    assert primer_process(RESUME, cwd=tmp_path).code == 0
    assert left_by(run) == whole


def stopped(primer_process: Any, reach: Any, words: list[str], place: Path, step: int) -> RunDirectory:
    """A run that was asked to end after a step, and did."""
    training = primer_process.start(words, cwd=place)
    reach(place / "runs", step, training)
    os.kill(training.pid, signal.SIGTERM)
    assert training.wait().code == 143
    return find("latest", place / "runs")


def saved_step(run: RunDirectory) -> int:
    """The step of the newest whole checkpoint; `latest` leads to it, and it can be read."""
    newest = checkpoint.newest(run.checkpoints)
    assert newest is not None
    assert checkpoint.follow(run.checkpoints, "latest") == newest
    step: int = checkpoint.load(newest).state["step"]
    return step


@pytest.mark.parametrize(
    ("size", "where"),
    [
        (40_000, "optim.safetensors"),
        pytest.param(12_000, "model.safetensors", marks=LONG),
        *(pytest.param(size, "", marks=LONG) for size in range(1_000, 48_000, 3_000)),
    ],
)
def test_files_that_may_not_grow_leave_the_last_checkpoint(
    size: int,
    where: str,
    primer_process: Any,
    reach: Any,
    train: list[str],
    whole: dict[str, Any],
    tmp_path: Path,
) -> None:
    run = stopped(primer_process, reach, train, tmp_path, step=10)
    before = saved_step(run)
    done = primer_process(RESUME, cwd=tmp_path, file_size=size)
    assert done.code == 3
    words = last_words(done.err)
    assert words[0] == "error:  files may not grow that large here"
    assert words[-1] == "try:    ulimit -f unlimited, or another disk"
    if where:
        assert words[1].endswith(where)
        assert words[1].startswith("where:  ")
    assert saved_step(run) >= before
    assert not list(run.checkpoints.glob("*.tmp-*"))
    assert primer_process(RESUME, cwd=tmp_path).code == 0
    assert left_by(run) == whole


def went_on(done: Any, cause: str, run: RunDirectory, whole: dict[str, Any]) -> None:
    """The first command ended with code 3 in the right words; the second made the run what it would have been."""
    words = last_words(done.err.partition("going on after step")[0])
    assert words[0] == f"error:  {cause}"
    assert words[-1] == "try:    free some space; what was saved before is intact"
    assert done.codes == [3, 0]
    assert left_by(run) == whole


@pytest.mark.parametrize(
    "options",
    [
        "size=300k",
        "size=1m,nr_inodes=24",
        *(pytest.param(f"size={size}k", marks=LONG) for size in range(120, 340, 12)),
        *(pytest.param(f"size=1m,nr_inodes={count}", marks=LONG) for count in range(14, 30)),
    ],
)
def test_a_full_disk(
    options: str, primer_process: Any, train: list[str], whole: dict[str, Any], tmp_path: Path
) -> None:
    """A small file system without space, or without inodes, that someone then makes room on."""
    (tmp_path / "disk").mkdir()
    done = primer_process(train, RESUME, cwd=tmp_path / "disk", tmpfs=options, keep=str(tmp_path / "kept"))
    went_on(done, "the disk is full", find("latest", tmp_path / "kept" / "runs"), whole)


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (23, errno.ENOSPC),
        (80, errno.EDQUOT),
        *(pytest.param(after, errno.ENOSPC, marks=LONG) for after in range(0, 150, 2)),
    ],
)
def test_a_disk_that_takes_so_many_writes_and_no_more(
    after: int, code: int, primer_process: Any, train: list[str], whole: dict[str, Any], tmp_path: Path
) -> None:
    """The full disk of systems on which no small file system can be made, at every place where it may be noticed."""
    done = primer_process(train, RESUME, cwd=tmp_path, deny_after=after, errno=code)
    if done.codes[0] == 3 and not list(tmp_path.glob("runs/*/checkpoints/latest")):
        assert done.codes == [3, 4], "there was nothing yet to go on from"
        assert (
            "error:  this run has no whole checkpoint" in done.err
            or "error:  there are no runs yet" in done.err
        )
        return
    cause = "the disk is full" if code == errno.ENOSPC else "your disk quota is used up"
    went_on(done, cause, find("latest", tmp_path / "runs"), whole)


@pytest.mark.parametrize(
    ("context", "width", "rows", "megabytes"),
    [
        (128, 2048, 64, 150),
        (64, 4096, 64, 150),
        *(pytest.param(128, 2048, 64, size, marks=LONG) for size in (130, 170, 190, 210)),
    ],
)
def test_out_of_memory_suggests_a_micro_batch_with_which_it_goes_on(
    context: int,
    width: int,
    rows: int,
    megabytes: int,
    primer_process: Any,
    train: list[str],
    tmp_path: Path,
) -> None:
    """All rows at once do not fit; one at a time does, in the same memory."""
    large = [
        f"--model.context-length={context}",
        f"--model.d-ff={width}",
        f"--train.batch-size={rows}",
        f"--train.micro-batch={rows}",
    ]
    words = [*train, *large, "--train.steps=1", "--schedule.warmup=0", "--train.sample-every=0"]
    surroundings = {"cwd": tmp_path, "memory": megabytes << 20}
    done = primer_process(words, **surroundings)
    assert done.code == 3
    cause, hint = last_words(done.err)
    assert cause == "error:  out of memory"
    (suggested,) = [word for word in hint.replace(",", "").split() if word.startswith("--train.micro-batch=")]
    run = find("latest", tmp_path / "runs")
    assert saved_step(run) == 0
    again = primer_process([*RESUME, suggested], **surroundings)
    assert again.code == 0
    assert saved_step(run) == 1


def test_a_place_where_nothing_may_be_written_is_said(
    primer_process: Any, train: list[str], tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o555)
    done = primer_process(train, cwd=tmp_path, powerless=True)
    assert done.code == 3
    assert done.out == ""
    assert last_words(done.err) == [
        "error:  cannot make a run directory: no permission to write there",
        "where:  runs",
        "try:    --runs-dir=DIR elsewhere",
    ]
    assert not list((tmp_path / "runs").iterdir())


def test_a_run_that_became_read_only_is_not_said_to_be_saved(
    primer_process: Any, reach: Any, train: list[str], whole: dict[str, Any], tmp_path: Path
) -> None:
    """The story: a checkpoint in a read-only directory that seemed to succeed."""
    run = stopped(primer_process, reach, train, tmp_path, step=10)
    before = saved_step(run)
    run.checkpoints.chmod(0o555)
    done = primer_process(RESUME, cwd=tmp_path, powerless=True)
    run.checkpoints.chmod(0o755)
    assert done.code == 3
    assert last_words(done.err)[0] == "error:  no permission"
    assert "is saved" not in done.err
    assert saved_step(run) == before
    assert primer_process(RESUME, cwd=tmp_path).code == 0
    assert left_by(run) == whole


def test_a_run_has_one_process_and_a_dead_one_holds_nothing(
    primer_process: Any, reach: Any, train: list[str], whole: dict[str, Any], tmp_path: Path
) -> None:
    run = stopped(primer_process, reach, train, tmp_path, step=2)
    first = primer_process.start(RESUME, cwd=tmp_path)
    reach(tmp_path / "runs", saved_step(run) + 1, first)
    os.kill(first.pid, signal.SIGSTOP)
    kept = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    for words in (RESUME, ["runs", "rm", "latest", "--yes", "--runs-dir=runs"]):
        second = primer_process(words, cwd=tmp_path)
        assert second.code == 3
        assert last_words(second.err)[0] == f"error:  this run is being trained by process {first.pid}"
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == kept
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait().code == -signal.SIGKILL
    assert primer_process(RESUME, cwd=tmp_path).code == 0
    assert left_by(run) == whole


def test_two_trainings_in_one_place_make_two_runs(
    primer_process: Any, train: list[str], whole: dict[str, Any], tmp_path: Path
) -> None:
    """The story: a fresh start that overwrites a long run."""
    both = [primer_process.start(train, cwd=tmp_path) for _ in range(2)]
    assert [each.wait().code for each in both] == [0, 0]
    runs = sorted((tmp_path / "runs").iterdir())
    assert len(runs) == 2
    assert [left_by(RunDirectory(path)) for path in runs] == [whole, whole]


@pytest.mark.parametrize("home", ["none", "read-only"])
def test_without_a_home_the_temporary_folder_serves(
    home: str, primer_process: Any, train: list[str], tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir(mode=0o555)
    environment = {"XDG_CACHE_HOME": None, "TMPDIR": str(tmp_path), "HOME": str(tmp_path / "home")}
    if home == "none":
        environment["HOME"] = None
    done = primer_process([*train, "--train.steps=2"], cwd=tmp_path, environment=environment, powerless=True)
    assert done.code == 0
    assert done.err.startswith("the cache ")
    assert f"cannot be written; using {tmp_path / 'primer-'}" in done.err.splitlines()[0]
    (shards,) = tmp_path.glob("primer-*/shards/*")
    assert (shards / "manifest.json").is_file()
    assert list((tmp_path / "home").iterdir()) == []


AWKWARD = "a folder with 😀 and ß"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A system whose own encoding is ASCII, as `open` without an encoding would find out."""


@pytest.fixture(scope="module")
def strange_runs(quick: tuple[str, ...]) -> Any:
    """Train on letters beyond ASCII below a folder; returns what the run left."""

    def work(place: Path, name: str, start: Any) -> dict[str, Any]:
        place.mkdir()
        (place / f"{name}.txt").write_bytes("two pieces of cake – ß, 😀 and é\n".encode() * 60)
        done = start(["train", f"{name}.txt", "--train.steps=12", f"--runs-dir={name} runs", *quick], place)
        assert done.out.startswith(f"{name} runs{os.sep}"), done.err
        return left_by(find("latest", place / f"{name} runs"))

    return work


def started_anew(environment: dict[str, str]) -> Any:
    """How to start a process that reads its locale, as a forked one does not."""

    def start(words: list[str], place: Path) -> Any:
        others = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LC_", "LANG", "PYTHON"))
        }
        kept = {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
        done = subprocess.run(
            [sys.executable, "-m", "primer", *words],
            cwd=place,
            env={**others, **kept, "OMP_NUM_THREADS": "1", **environment},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
        return Done(done.stdout, done.stderr)

    return start


@dataclass(frozen=True)
class Done:
    """What a process said."""

    out: str
    err: str


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        (None, AWKWARD),
        (ASCII, "plain"),
        pytest.param({"LC_ALL": "C"}, AWKWARD, marks=LONG),
        pytest.param({"LC_ALL": "C.UTF-8"}, AWKWARD, marks=LONG),
        pytest.param({"LC_ALL": "POSIX"}, "plain", marks=LONG),
    ],
)
def test_neither_locale_nor_path_change_a_run(
    environment: dict[str, str] | None, name: str, primer_process: Any, strange_runs: Any, tmp_path: Path
) -> None:
    """The story: a text that was opened in the platform's encoding."""

    def forked(words: list[str], place: Path) -> Any:
        return primer_process(words, cwd=place)

    plain = strange_runs(tmp_path / "plain", "plain", forked)
    start = forked if environment is None else started_anew(environment)
    assert strange_runs(tmp_path / ("other" if name == "plain" else AWKWARD), name, start) == plain


@dataclass(frozen=True)
class Preparing:
    """A text on its way into shards, and what becomes of it where nothing happens."""

    words: list[str]
    fingerprint: str


@pytest.fixture(scope="module")
def preparing(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Preparing:
    place = tmp_path_factory.mktemp("preparing")
    content = text.read_text()
    tokenizer = place / "tokenizer.json"
    tokenizer.write_text(BPETokenizer.train([content], vocab_size=300).to_json())
    words = ["prepare", str(text), f"--tokenizer={tokenizer}", "--out=shards"]
    shards = prepare(text, tokenizer=str(tokenizer), out=place / "shards")
    return Preparing(words, shards.fingerprint)


def prepared(place: Path, preparing: Preparing) -> None:
    """The shards are those of an undisturbed preparation, and nothing else lies beside them."""
    assert ShardDirectory.open(place / "shards").fingerprint == preparing.fingerprint
    assert not list(place.glob("shards.tmp-*"))


@pytest.mark.parametrize(
    "size", [9_000, *(pytest.param(size, marks=LONG) for size in range(500, 12_000, 500))]
)
def test_shards_that_may_not_grow_do_not_appear(
    size: int, primer_process: Any, preparing: Preparing, tmp_path: Path
) -> None:
    done = primer_process(preparing.words, cwd=tmp_path, file_size=size)
    assert done.code == 3
    words = last_words(done.err)
    assert words[0] == "error:  files may not grow that large here"
    assert words[-1] == "try:    ulimit -f unlimited, or another disk"
    assert not (tmp_path / "shards").exists()
    assert primer_process(preparing.words, cwd=tmp_path).code == 0
    prepared(tmp_path, preparing)


@pytest.mark.parametrize(
    "options",
    [
        "size=16k",
        "size=1m,nr_inodes=4",
        *(pytest.param(f"size={size}k", marks=LONG) for size in range(4, 32, 4)),
    ],
)
def test_a_disk_too_small_for_shards(
    options: str, primer_process: Any, preparing: Preparing, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    done = primer_process(
        preparing.words, preparing.words, cwd=tmp_path / "disk", tmpfs=options, keep=str(tmp_path / "kept")
    )
    assert done.codes == [3, 0]
    words = last_words(done.err)
    assert words[0] == "error:  the disk is full"
    assert words[-1].startswith("try:    free some space")
    prepared(tmp_path / "kept", preparing)


@pytest.mark.parametrize("after", [2, 6, *(pytest.param(after, marks=LONG) for after in range(16))])
def test_a_disk_that_takes_so_many_writes_of_shards(
    after: int, primer_process: Any, preparing: Preparing, tmp_path: Path
) -> None:
    done = primer_process(
        preparing.words, preparing.words, cwd=tmp_path, deny_after=after, errno=errno.ENOSPC
    )
    assert done.codes in ([3, 0], [0, 0])
    if done.codes[0]:
        assert last_words(done.err)[0] == "error:  the disk is full"
    prepared(tmp_path, preparing)


def test_shards_where_nothing_may_be_written(
    primer_process: Any, preparing: Preparing, tmp_path: Path
) -> None:
    tmp_path.chmod(0o555)
    done = primer_process(preparing.words, cwd=tmp_path, powerless=True)
    tmp_path.chmod(0o755)
    assert done.code == 3
    assert last_words(done.err)[0] == "error:  no permission"
    assert not list(tmp_path.iterdir())
