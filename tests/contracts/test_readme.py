"""README is executed: its commands are understood, its Python runs."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

import primer
from primer.cli.main import main
from primer.corpus import dates
from primer.recipes.resolve import recipes

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TINY: dict[str, Any] = {
    "model.d_model": 16,
    "model.n_layers": 1,
    "model.n_heads": 2,
    "train.steps": 2,
    "train.batch_size": 2,
    "train.micro_batch": 2,
    "train.short_context": 0,
    "train.device": "cpu",
    "schedule.warmup": 1,
    "sample.tokens": 4,
}


def commands(verb: str) -> list[list[str]]:
    """The commands of README that begin with `primer VERB`, as words."""
    lines = [line.split(" && ") for line in re.findall(r"^primer .*$", README, re.M)]
    words = [shlex.split(command, comments=True) for line in lines for command in line]
    return [each for each in words if each[1] == verb]


def test_every_train_command_is_understood(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("my.txt", "other.txt", "my.en", "my.de", "wmt.en", "wmt.de"):
        (tmp_path / name).write_text(text_file.read_text())
    monkeypatch.chdir(tmp_path)
    primer.train("my.txt", flags=TINY)  # there must be a `latest`
    found = commands("train")
    assert len(found) >= 3
    for words in found:
        assert main([*words[1:], "--print-config"]) == 0, words
        assert "[model]" in capsys.readouterr().out


def test_every_verb_that_is_shown_exists(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = set(re.findall(r"^primer (\w+)", README, re.M))
    assert {"train", "sample", "eval", "runs", "resume", "plan", "doctor"} <= verbs
    for verb in verbs:
        assert main([verb, "--help"]) == 0


def test_a_date_is_translated_as_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two commands as they stand there, with a model that takes a moment: what it says is ten characters or so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(dates.PAIRS, "train", 1000)  # all of them take ten seconds to write
    (train,) = [words for words in commands("train") if words[2] == "dates"]
    translate = next(words for words in commands("translate") if "March" in words[3])
    tiny = {
        "model.d_model": 16,
        "model.n_heads": 2,
        "train.steps": 3,
        "train.batch_tokens": 400,
        "train.evaluate_pairs": 4,
        "train.device": "cpu",
        "schedule.warmup": 1,
    }
    assert main([*train[1:], *(f"--{name}={value}" for name, value in tiny.items())]) == 0
    capsys.readouterr()
    assert main(translate[1:]) == 0
    assert capsys.readouterr().out.endswith("\n")


def test_the_table_of_recipes_is_whole() -> None:
    listed = re.findall(r"^\| `([\w-]+)` \|", README, re.M)
    assert sorted(listed) == sorted(recipes())


def test_the_figures_are_the_receipts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import readme

    assert readme.rewritten(README) == README, "python benchmarks/readme.py"


def test_the_page_of_the_lessons_is_their_receipts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import lessons_page

    assert lessons_page.page() == lessons_page.PAGE.read_text(encoding="utf-8"), (
        "python benchmarks/lessons_page.py"
    )
    for picture in re.findall(r"\]\((pictures/[^)]*)\)", lessons_page.page()):
        assert (ROOT / "docs" / picture).is_file(), picture


def test_the_python_runs(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = python("primer.train")
    monkeypatch.chdir(tmp_path)
    train, resume = primer.train, primer.resume
    monkeypatch.setattr(primer, "train", lambda target: train(target, flags=TINY))
    monkeypatch.setattr(primer, "resume", lambda run, flags: resume(run, flags={"train.steps": 3}))
    exec(block, {})
    assert [row["step"] for row in primer.load("latest").metrics() if "loss" in row] == [1, 2, 3]


def test_attention_is_called_as_shown() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 4, 300, 8), torch.randn(1, 2, 300, 8)
    given = {"q": q, "k": k, "v": k, "ids": torch.arange(300)[None] // 100}
    exec(python("kernels.attention"), given)
    assert given["out"].shape == q.shape
    assert given["lse"].shape == q.shape[:3]


def python(mention: str) -> str:
    """The one Python of README that mentions something."""
    (found,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if mention in block]
    return str(found)
