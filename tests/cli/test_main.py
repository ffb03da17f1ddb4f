import errno
import os
import subprocess
import sys

import pytest

from primer import __version__
from primer.cli import main as cli
from primer.cli.main import HELP, OTHERS_WAIT, VERBS, main
from primer.errors import DataError, DivergedError, StoppedError, SurroundingsError, UsageError


def modules_after(words: list[str]) -> tuple[str, set[str]]:
    """What a fresh interpreter printed, and which of the heavy modules it had to import."""
    code = (
        "import sys\nfrom primer.cli.main import main\n"
        f"code = main({words!r})\n"
        "heavy = {'torch', 'tyro', 'rich', 'numpy'} & set(sys.modules)\n"
        "print('|' + ' '.join(heavy)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, _, heavy = done.stdout.rpartition("|")
    return said, set(heavy.split())


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_answers_without_anything_heavy(words: list[str]) -> None:
    said, heavy = modules_after(words)
    assert said == HELP
    assert not heavy


def test_version_needs_nothing_heavy() -> None:
    assert modules_after(["--version"]) == (f"primer {__version__}\n", set())


@pytest.mark.parametrize(
    "words",
    [*([verb] for verb in VERBS), ["train", "lecture"], *(["runs", sub] for sub in ("show", "compare"))],
)
def test_a_verbs_help_needs_no_torch_and_shows_three_examples(words: list[str]) -> None:
    said, heavy = modules_after([*words, "--help"])
    assert "torch" not in heavy
    assert f"usage: primer {words[0]}" in said
    examples = said.partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) == 3
    assert all("primer " in line for line in examples)


def test_every_verb_is_in_the_help() -> None:
    for verb in VERBS:
        assert f"\n  {verb} " in HELP or f"\n  {verb}  " in HELP


def test_help_shows_the_values_of_the_chosen_recipe(capsys) -> None:
    assert main(["train", "lecture", "--help"]) == 0
    said = capsys.readouterr().out
    assert "--model.d-model INT" in said
    flat = " ".join(said.split())
    assert "Width of the residual stream (C). (default: 384)" in flat
    assert "Optimizer steps. (default: 5000)" in flat
    assert main(["help", "train"]) == 0
    assert "(default: 384)" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["trian"], 2, ["unknown verb 'trian'", "primer train"]),
        (["--verison"], 2, ["unknown flag --verison", "primer --help"]),
        (["train", "--train.stesp=3"], 2, ["unknown flag --train.stesp", "--train.steps"]),
        (["train", "--steps=3"], 2, ["unknown flag --steps", "--train.steps"]),
        (["train", "shakespear"], 2, ["'shakespear' is no recipe", "primer train shakespeare"]),
        (["train", "--train.steps=x"], 2, ["train.steps must be a whole number, got 'x'", "--train.steps"]),
        (["train", "--model.norm=perr"], 2, ["model.norm must be one of pre, post, none", "pre"]),
        (["train", "--model.n-heads=3"], 2, ["does not divide by model.n_heads=3", "--model.n-heads=2"]),
        (["train", "--optim.lr=nan"], 2, ["optim.lr must be a finite number, got nan"]),
        (["train", "--optim.lr=0"], 2, ["optim.lr must be a positive number"]),
        (["train", "--optim.lr", "-1e-3"], 2, ["optim.lr must be a positive number, got -0.001"]),
        (["train", "--train.batch-size=0"], 2, ["train.batch_size must be at least 1"]),
        (
            ["train", "--schedule.warmup=9", "--train.steps=5"],
            2,
            ["longer than the run", "--schedule.warmup=0"],
        ),
        (["train", "a", "b"], 2, ["one argument too many: 'b'"]),
        (["train", "nothing.txt"], 4, ["no such file: nothing.txt"]),
        (["train", "shakespeare", "my-shards"], 2, ["one argument too many", "--data.source=my-shards"]),
        (["train", "--data=my-shards"], 2, ["unknown flag --data", "--data.source"]),
        (["eval", "latest", "my.txt"], 2, ["one argument too many", "--on=my.txt"]),
        (["sample", "gpt2"], 4, ["there are no runs yet", "primer import gpt2"]),
        (["resume"], 2, ["primer resume needs a run", "primer resume latest"]),
        (["sample"], 2, ["primer sample needs a run"]),
        (["eval"], 2, ["primer eval needs a run"]),
        (["runs", "shwo"], 2, ["unknown verb 'shwo'", "primer runs show"]),
        (["runs", "compare", "one"], 2, ["needs two runs"]),
        (["doctor", "--device=gpu"], 2, ["device must be one of auto, cpu, cuda, mps, got 'gpu'"]),
        (["sample", "latest", "--n=0"], 2, ["--n and --tokens must be at least 1"]),
        (["sample", "latest", "--runs-dir=nowhere"], 4, ["there are no runs yet", "nowhere"]),
        (["resume", "abc", "--runs-dir=nowhere"], 4, ["there are no runs yet"]),
    ],
)
def test_mistakes_take_three_lines_and_a_code(words, code, said, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error:  ")
    assert len(err.splitlines()) <= 3
    assert "Traceback" not in err
    for part in said:
        assert part in err
    assert not list(tmp_path.iterdir())


def test_what_all_processes_do_wrong_is_told_by_the_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchrun starts them all with the same words."""
    waited: list[float] = []
    monkeypatch.setattr("primer.cli.main.time.sleep", waited.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["train", "--train.stesp=3"]) == 2
    assert waited == [OTHERS_WAIT], "meanwhile torchrun ends it, if the first one has found the same"
    assert "unknown flag" in capsys.readouterr().err
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert main(["train", "--train.stesp=3"]) == 2
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["train", "nothing.txt"]) == 4
    assert len(waited) == 1, "what may be one process's own trouble is said at once"


def test_a_text_without_a_verb_is_offered_to_train(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "poems.txt").write_text("x")
    assert main(["poems.txt"]) == 2
    assert "primer train poems.txt" in capsys.readouterr().err


def test_cuda_where_there_is_none(tmp_path, capsys, monkeypatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = tmp_path / "t.txt"
    text.write_text("To be, or not to be. " * 100)
    assert main(["train", str(text), "--train.device=cuda", f"--runs-dir={tmp_path}/runs"]) == 3
    err = capsys.readouterr().err
    assert "cuda is not available here" in err
    assert "--train.device=cpu" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("a", "b", "c"), 2, "error:  a\nwhere:  b\ntry:    c\n"),
        (SurroundingsError("a"), 3, "error:  a\n"),
        (DataError("a", hint="c"), 4, "error:  a\ntry:    c\n"),
        (DivergedError("a", "b"), 5, "error:  a\nwhere:  b\n"),
        (StoppedError("saved", hint="primer resume x"), 130, "stopped: saved\ntry:    primer resume x\n"),
        (StoppedError("saved", exit_code=143), 143, "stopped: saved\n"),
        (StoppedError("None is saved", quiet=True), 130, ""),
        (KeyboardInterrupt(), 130, "stopped: by Ctrl-C\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 3, "error:  the disk is full\nwhere:  x\n"),
        (OSError(errno.EROFS, "Read-only file system"), 3, "error:  this place is read-only\n"),
        (PermissionError(errno.EACCES, "Permission denied", "y"), 3, "error:  no permission\nwhere:  y\n"),
        (MemoryError(), 3, "error:  out of memory\n"),
        (RuntimeError("CUDA out of memory. Tried …"), 3, "error:  out of memory\n"),
        (
            RuntimeError("strange\nthing"),
            1,
            "error:  RuntimeError: strange\ntry:    the same command with --debug",
        ),
    ],
)
def test_what_goes_wrong_has_its_exit_code(error, code, said, capsys, monkeypatch) -> None:
    def fail(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "dispatch", fail)
    assert main(["train"]) == code
    assert capsys.readouterr().err.startswith(said)


def test_debug_shows_where(capsys, monkeypatch) -> None:
    def fail(words: list[str]) -> int:
        assert words == ["train", "--", "--debug"]
        raise DataError("broken")

    monkeypatch.setattr(cli, "dispatch", fail)
    assert main(["train", "--debug", "--", "--debug"]) == 4
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("error:  broken\n")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = "import sys; from primer.cli.main import main; sys.exit(main(['--help']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_under_stdout_is_told() -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "primer", "--help"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error:  the disk is full\n")
    assert "Exception ignored" not in done.stderr


def test_a_stream_that_lacks_a_character_is_no_error() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    words = [sys.executable, "-m", "primer", "train", "--help"]
    done = subprocess.run(words, capture_output=True, env=environment, check=False)
    assert done.returncode == 0
    assert done.stdout.isascii()
