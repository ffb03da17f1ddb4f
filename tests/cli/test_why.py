"""`primer why`, as a person types it."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from primer import device
from primer.cli.main import main
from primer.experiments import QUESTIONS
from primer.experiments.arithmetic import CALCULATIONS
from primer.models import count
from primer.models.config import TransformerConfig
from primer.recipes.directory import every
from primer.recipes.plan import SHARE
from primer.recipes.session import Session
from setups import TINY_PAIRS, reversed_digits

TINY = {**TINY_PAIRS, "model.d_model": 32, "train.evaluate_pairs": 0, "train.sample_every": 0}


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """`table-3` on a tiny text, with its row (E) alone."""
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()]
    source = reversed_digits(tmp_path)
    return ["table-3", "--variants=E", f"--data.source={source}", f"--runs-dir={tmp_path / 'runs'}", *flags]


def said_by(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main(["why", *argv]) == code
    return capsys.readouterr()


def test_without_a_word_it_lists_the_questions(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said_by(capsys)
    for name, question in QUESTIONS.items():
        assert [name, question.text] in [line.split(maxsplit=1) for line in out.splitlines()]
    assert json.loads(said_by(capsys, "--json")[0]) == {name: each.text for name, each in QUESTIONS.items()}


@pytest.mark.parametrize(
    ("argv", "cause", "hint"),
    [
        (["table-4"], "no question is called 'table-4'", "primer why table-3"),
        (["xyzzy"], "no question is called 'xyzzy'", "primer why"),
        (["--train.steps=3"], "flags go with a question", "primer why table-3"),
        (["table-3", "--variants=dropuot"], "table-3 has no variant 'dropuot'", "--variants=dropout"),
        (["table-3", "--seeds=-1"], "--seeds and --minutes must not be negative", "--seeds=3"),
        (["table-3", "--full", "--seeds=2"], "--full is all seeds and variants", "--full alone"),
        (
            ["sums", "--train.steps=3", "--seeds=2"],
            "there is nothing to train",
            "primer why sums --seeds=2\n",
        ),
        (
            ["products", "--so-far", "--variants=bf16"],
            "nothing is kept",
            "primer why products --variants=bf16\n",
        ),
        (["sums", "--curves=x.png"], "there is nothing to train", "primer why sums\n"),
        (["sums", "--plot=none/x.png"], "--plot: there is no folder 'none'", "mkdir -p none"),
        (["table-3", "--curves=none/x.png"], "--curves: there is no folder 'none'", "mkdir -p none"),
        (["sums", "--variants=bf61"], "sums has no 'bf61'", "--variants=bf16"),
        (["table-3", "--train.minutes=2"], "equally many steps", "--train.steps="),
        (["table-3", "--train.batch-size=2"], "an encoder–decoder has no train.batch_size", "--"),
        (["table-3", "--plot=x.jpg"], "--plot writes .png or .svg", "--plot=x.png"),
        (["table-3", "--sedes=2"], "unknown flag --sedes", "--seeds"),
    ],
)
def test_what_cannot_be_meant(
    argv: list[str],
    cause: str,
    hint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    _, err = said_by(capsys, *argv, code=2)
    assert cause in err
    assert f"try:    {hint}" in err
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from primer.cli.main import main; assert main(['why', 'table-3', '--help']) == 0; "
        "assert main(['why']) == 0; sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "primer why formats --minutes=5" in done.stdout
    assert "(default: 1000)" in done.stdout, "the steps of recipe table-3"


def test_a_plan_trains_nothing_and_adds_up(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "matmul_rate", lambda *where: 1e9)
    plan = json.loads(said_by(capsys, *words, "--variants=N", "--seeds=2", "--plan", "--json")[0])
    assert not (tmp_path / "runs").exists()
    assert [row["name"] for row in plan["variants"]] == ["base", "N=2", "N=4"], "the base has one layer here"
    seconds = 0.0
    for row, layers in zip(plan["variants"], (1, 2, 4), strict=True):
        model = TransformerConfig(
            vocab_size=257, context_length=40, d_model=32, n_layers=layers, n_heads=2, d_ff=32
        )
        assert row["parameters"] == count.parameters(model)
        seconds += 2 * 12 * 120 * count.flops_per_token(model) / (1e9 * SHARE)
    assert plan["seconds_left"] == pytest.approx(seconds)
    out, _ = said_by(capsys, *words, "--plan")
    assert "6 of 6 runs are to be trained" in out
    assert "model.positions=learned" in out


def test_a_plan_of_arithmetic_says_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        "its cost, before anything is trained or computed: primer why QUESTION --plan" in said_by(capsys)[0]
    )
    for each in CALCULATIONS:
        plan = json.loads(said_by(capsys, each.name, "--plan", "--json")[0])
        assert plan["seeds"] == each.seeds
        assert plan["seconds_left"] == each.seeds * plan["seconds_a_seed"] > 0
        out, _ = said_by(capsys, each.name, "--plan", "--seeds=1")
        assert "Arithmetic: nothing is trained, nothing is kept. 1 seed: about" in out
    plan = json.loads(said_by(capsys, "softmax", "--plan", "--minutes=0.01", "--json")[0])
    assert plan["seeds"] == 2, "an interval needs two"


def test_an_answer(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained, then told again from the runs: as a table, as JSON, as a picture, and what is left by plan."""
    out, err = said_by(capsys, *words, "--seeds=2")
    assert "variant 2 of 2, seed 1 of 2, positions=learned" in err
    assert "step 12/12" in err
    assert "primer translate" not in err, "what one could do with each of the runs is not said each time"
    row = next(line for line in out.splitlines() if line.startswith("(E)  positions=learned"))
    assert " 2 seeds " in row or " by " in row
    assert row.rstrip().endswith("–"), "theirs has the same perplexity, which has no side"
    assert "Vaswani et al. 2017 (v7), table 3" in out
    picture = tmp_path / "picture.svg"
    again, err = said_by(capsys, *words, "--seeds=2", f"--plot={picture}")
    assert again == out
    assert "4 of 4 runs are there already" in err
    assert "step" not in err.replace("steps", "")
    assert picture.read_text().count("<!-- (E) positions=learned -->") == 2, "a line of panels a measure"
    plain = json.loads(said_by(capsys, *words, "--seeds=2", "--json")[0])
    (variant,) = plain["variants"]
    assert variant["flags"] == {"model.positions": "learned"}
    assert variant["parameters"] - plain["base"]["parameters"] == 40 * 32
    assert variant["matmul_parameters"] == plain["base"]["matmul_parameters"]
    assert set(variant["differences"]) == {"perplexity", "bleu"}
    by_seed = variant["differences"]["perplexity"]["by_seed"]
    assert list(by_seed) == ["1337", "1338"]
    plan = json.loads(said_by(capsys, *words, "--seeds=3", "--plan", "--json")[0])
    assert [(each["runs"], each["there"]) for each in plan["variants"]] == [(3, 2), (3, 2)]
    assert plan["seconds_left"] == pytest.approx(sum(each["seconds_a_run"] for each in plan["variants"]))


def test_one_seed_says_that_it_has_no_interval(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said_by(capsys, *words, "--seeds=1")
    assert "with one seed: no interval" in out
    assert "One seed has no interval: --seeds=3" in out


def test_whoever_stops_it_is_told_the_same_command(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Session.record

    def interrupting(self: Session, row: dict[str, Any]) -> None:
        record(self, row)
        if row["step"] == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "record", interrupting)
        _, err = said_by(capsys, *words, "--seeds=1", code=130)
    assert "stopped: after step 5, which is saved; 0 of 2 runs have ended, and are kept" in err
    assert f"where:  {tmp_path / 'runs' / 'why-table-3'}" in err
    command = err.rpartition("try:    ")[2].strip()
    assert shlex.split(command) == ["primer", "why", *words, "--seeds=1"]
    _, err = said_by(capsys, *shlex.split(command)[2:])
    assert "going on with" in err
    assert len(every(tmp_path / "runs" / "why-table-3")) == 2


def test_so_far_trains_nothing(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said_by(capsys, *words, "--so-far")
    assert "not trained yet" in out
    assert not (tmp_path / "runs").exists()


def test_several_processes_are_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    _, err = said_by(capsys, *words, code=2)
    assert "an experiment trains in one process" in err
    assert not (tmp_path / "runs").exists()
