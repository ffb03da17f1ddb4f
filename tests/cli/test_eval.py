"""`primer eval` on texts and tasks: what it prints is what the run's own functions say."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import primer
from primer.cli import scores
from primer.cli.eval import VERB, several
from primer.cli.eval import run as evaluate
from primer.cli.flags import own_flags
from primer.cli.main import main
from primer.errors import DataError, UsageError
from primer.evals import tasks
from primer.evals.figures import Figure
from primer.evals.interval import Estimate
from primer.evals.multiple_choice import TaskScore
from primer.recipes import scores as from_scores
from primer.tokens import CharTokenizer
from setups import TINY

Says = Callable[..., str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> primer.Run:
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("".join(f"two times {n} is {2 * n}.\n" for n in range(200)), encoding="utf-8")
    flags = {
        **TINY,
        "train.steps": 4,
        "train.checkpoint_every": 4,
        "train.sample_every": 0,
        "data.tokenizer": "byte",
    }
    return primer.train(text, flags=flags, runs_dir=text.parent / "runs")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tasks by name and a file, and a text."""
    folder = tmp_path / "data" / "eval"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PRIMER_DATA", str(tmp_path / "data"))
    choices = [
        {"query": f"two times {n} is", "choices": [f"{2 * n}.", f"{n}."], "gold": n % 2} for n in range(9)
    ]
    clozes = [{"context": f"two times {n}", "continuation": "is"} for n in range(5)]
    (folder / "piqa.jsonl").write_text("".join(json.dumps(each) + "\n" for each in choices))
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(each) + "\n" for each in clozes))
    (tmp_path / "a, b.txt").write_text("two times two is four.")
    return tmp_path


@pytest.fixture
def says(trained: primer.Run, capsys: pytest.CaptureFixture[str]) -> Says:
    def said(*words: str) -> str:
        capsys.readouterr()
        assert main(["eval", str(trained.path), *words]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return said


def test_a_task_as_json(trained: primer.Run, place: Path, says: Says) -> None:
    found = json.loads(says("--on=piqa", "--json"))
    assert found.pop("run") == str(trained.path)
    assert found.pop("on") == "piqa"
    assert [figure["accuracy"] for figure in found.pop("gpt2_124m")] == [0.6289]
    assert found == asdict(trained.evaluate_task("piqa"))
    assert found["questions"] == 9
    found = json.loads(says("--on=piqa", "--limit=4", "--shots=2", "--seed=5", "--json"))
    assert found["by_token"] == asdict(trained.evaluate_task("piqa", limit=4, shots=2, seed=5))["by_token"]
    assert (found["questions"], found["shots"]) == (4, 2)


def test_what_is_asked_for_is_what_is_read(
    trained: primer.Run, place: Path, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, int]] = []
    read = tasks.read_task

    def spy(spec: str, **options: int) -> tasks.Task:
        asked.append(options)
        return read(spec, **options)

    monkeypatch.setattr(tasks, "read_task", spy)
    says("--on=piqa", "--limit=4", "--shots=2", "--seed=5")
    says("--on=piqa")
    assert asked == [{"limit": 4, "shots": 2, "seed": 5}, {"limit": None, "shots": 0, "seed": 0}]


def test_several_at_once(trained: primer.Run, place: Path, says: Says) -> None:
    text, mine = place / "a, b.txt", place / "mine.jsonl"
    found = json.loads(says(f"--on=piqa,{mine}", f"--on={text}", "--json"))
    assert [each["on"] for each in found["scores"]] == ["piqa", str(mine), str(text)]
    assert found["scores"][2]["loss"] == trained.evaluate(text)["loss"]
    said = says(f"--on=piqa,{mine}", f"--on={text}")
    lines = said.splitlines()
    assert lines[0].startswith("loss  ")
    assert f"tokens of {text}" in said
    (header,) = [line.split() for line in lines if line.startswith("task")]
    assert header == [
        "task",
        "questions",
        "chance",
        "accuracy",
        "by",
        "character",
        "by",
        "token",
        "perplexity",
    ]
    (row,) = [line.split() for line in lines if line.startswith("piqa ")]
    score = trained.evaluate_task("piqa")
    assert row[:4] == ["piqa", "9", "0.50", f"{score.accuracy.value:.4f}"]
    assert row[4] == f"({score.accuracy.low:.3f}–{score.accuracy.high:.3f})"
    assert row[-1] == "–"
    (figure,) = [line for line in lines if "GPT-2 124M" in line]
    assert "[1]" in figure
    assert "0.6289" in figure
    assert "0.6251" in figure
    assert any(line.startswith("[1] Sanchez") for line in lines)
    cloze = trained.evaluate_task(mine)
    assert cloze.perplexity is not None
    (row,) = [line.split() for line in lines if line.startswith("mine ")]
    assert row[:3] == ["mine", "5", "–"]
    assert f"{cloze.perplexity.value:.2e}" in row
    assert score.cut == 9
    assert "piqa: 9 questions are longer than the model's context of 16 tokens" in said


def test_a_figure_stands_below_the_measure_that_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not where there are examples in front, which nobody's figure is for."""
    share = Estimate(0.25, 0.2, 0.3)
    score = TaskScore("t", "multiple_choice", 1234, 0, share, None, share, share, 0.25, None, 0)
    figures = [Figure("t", "one", accuracy=0.111, by_token=0.333), Figure("t", "two", 0.1, by_character=0.2)]
    monkeypatch.setattr("primer.evals.figures.known", lambda task: figures)
    lines = scores.of_tasks([score], 16).splitlines()
    header, ours, first, second = lines[:4]
    assert "by character" not in header
    assert ours.split()[:3] == ["t", "1,234", "0.25"]
    assert first.index("0.1110") == header.index("accuracy")
    assert first.index("0.3330") == header.index("by token")
    assert second.split()[-1] == "0.1000"
    assert lines[-2:] == ["[1] one", "[2] two"]
    with_shots = TaskScore("t", "multiple_choice", 12, 3, share, None, share, share, 0.25, None, 0)
    said = scores.of_tasks([with_shots], 16)
    assert "t, 3 shots" in said
    assert "GPT-2" not in said


MISTAKES = {
    "nearest": (["--on=hellaswga"], 4, ["no file or folder 'hellaswga'", "did you mean hellaswag?"]),
    "second of two": (["--on=piqa,nothing"], 4, ["no file or folder 'nothing'"]),
    "an empty word": (["--on="], 4, ["empty word"]),
    "no questions": (["--on=piqa", "--limit=0"], 2, ["--limit must be at least 1"]),
    "negative shots": (["--on=piqa", "--shots=-1"], 2, ["--shots"]),
    "too many shots": (["--on=piqa", "--shots=9"], 2, ["--shots=8"]),
    "both": (["--on=piqa", "--harness=piqa"], 2, ["exclude each other"]),
    "not here": (["--on=copa"], 3, ["copa is not on this machine", "copa.jsonl"]),
    "a key that is missing": (["--on=broken.jsonl"], 4, ['the key "gold" is missing', "broken.jsonl, line 1"]),
    "gold out of range": (["--on=far.jsonl"], 4, ['"gold" is 7', "far.jsonl, line 2"]),
    "a text of that form": (["--on=other.jsonl"], 4, ['no string under the key "text"']),
}  # fmt: skip


@pytest.mark.parametrize(("words", "code", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_told_before_anything_is_scored(
    words: list[str],
    code: int,
    said: list[str],
    trained: primer.Run,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    (place / "broken.jsonl").write_text('{"query": "a", "choices": ["b", "c"]}\n')
    line = '{"query": "a", "choices": ["b", "c"], "gold": %d}\n'
    (place / "far.jsonl").write_text(line % 1 + line % 7)
    (place / "other.jsonl").write_text('{"question": "a"}\n')
    capsys.readouterr()
    assert main(["eval", str(trained.path), *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) <= 3
    assert "try:" in err
    for part in said:
        assert part in err


def test_the_help_names_every_task() -> None:
    assert all(name in VERB.about for name in tasks.TASKS)


def test_a_comma_separates_unless_it_is_in_a_files_name(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert several(["a, b.txt", "piqa, copa", "x"]) == ["a, b.txt", "piqa", "copa", "x"]


def test_the_harness_is_named_where_it_is_missing(
    trained: primer.Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert main(["eval", str(trained.path), "--harness=hellaswag,arc_easy"]) == 3
    assert 'pip install "gpt-primer[eval]"' in capsys.readouterr().err


def test_what_the_harness_found(trained: primer.Run, says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "piqa": {"alias": "piqa", "acc,none": 0.5, "acc_stderr,none": 0.01, "sample_len": 9},
        "wikitext": {"word_perplexity,none": 123.456, "word_perplexity_stderr,none": "N/A"},
    }
    asked: list[object] = []

    def harness(run: primer.Run, tasks: list[str], **options: object) -> object:
        asked.append((tasks, options))
        return found

    monkeypatch.setattr(primer.Run, "evaluate_harness", harness)
    said = says("--harness=piqa,wikitext", "--limit=9", "--shots=1")
    assert asked == [(["piqa", "wikitext"], {"limit": 9, "shots": 1, "unknown": "error"})]
    assert [line.split() for line in said.splitlines()[1:]] == [
        ["piqa", "acc", "0.5000", "0.0100"],
        ["wikitext", "word_perplexity", "123.46", "–"],
    ]
    assert json.loads(says("--harness=piqa", "--json"))["harness"] == found


@pytest.mark.parametrize("live", [True, False])
def test_long_tasks_say_how_far_they_are(
    live: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(scores.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: live)
    with scores.Ticker("piqa") as ticker:
        ticker(10, 4000)
        assert capsys.readouterr().err == "", "a task that takes a moment says nothing"
        now[0] += 11
        ticker(2000, 4000)
        ticker(2010, 4000)
        said = capsys.readouterr().err
    told = "piqa: 2,000 of 4,000 answers, 0:11 left"  # the first 10 paid for what happens once
    assert said == (f"\r{told}" if live else f"{told}\n")
    left = capsys.readouterr().err
    assert left == ("\r" + " " * len(told) + "\r" if live else "")


def test_long_texts_say_how_far_they_are(trained: primer.Run, place: Path) -> None:
    seen: list[tuple[int, int]] = []
    text = place / "long.txt"
    text.write_text("two times two is four. " * 2000)
    score = trained.evaluate(text, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (score["tokens"], score["tokens"])


def test_shards_are_scored_by_their_validation_part(trained: primer.Run, place: Path, says: Says) -> None:
    text = place / "text.txt"
    text.write_text("".join(f"two times {n} is {2 * n}.\n" for n in range(300)))
    assert main(["prepare", str(text), "--tokenizer=byte", f"--out={place / 'shards'}"]) == 0
    cut = int(0.9 * len(text.read_text()))
    rest = place / "rest.txt"
    rest.write_text(text.read_text()[cut:])
    of_shards = json.loads(says(f"--on={place / 'shards'}", "--json"))
    of_text = json.loads(says(f"--on={rest}", "--json"))
    assert of_shards["loss"] == of_text["loss"]
    assert main(["prepare", str(text), "--tokenizer=char", f"--out={place / 'others'}"]) == 0
    with pytest.raises(DataError, match="another tokenizer"):
        trained.evaluate(place / "others")
    for words in ([f"--on={place / 'shards'}"], []):
        with pytest.raises(UsageError, match="tokens that are there"):
            evaluate([str(trained.path), *words, "--field=content"])


def test_tokens_of_others_are_scored_where_the_run_has_their_tokenizer(
    trained: primer.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has written down which tokenizer that was. Only the validation file need be there."""
    folder = tmp_path / "published"
    folder.mkdir()
    ids = trained.tokenizer.encode("two times two is four. " * 40).astype("<u2")
    np.save(folder / "fineweb_val_000000.npy", ids)
    monkeypatch.setattr(from_scores, "open_tokenizer", lambda name: CharTokenizer("abc"))
    with pytest.raises(DataError, match="GPT-2's, as others use it"):
        trained.evaluate(folder)
    monkeypatch.setattr(from_scores, "open_tokenizer", lambda name: trained.tokenizer)
    assert trained.evaluate(folder)["tokens"] == len(ids) - 1
    np.save(folder / "fineweb_train_000001.npy", ids)
    flags = {**TINY, "train.steps": 2, "train.sample_every": 0, "data.tokenizer": "byte"}
    own = primer.train("default", flags={**flags, "data.source": str(folder)}, runs_dir=tmp_path / "runs")
    monkeypatch.undo()
    assert own.evaluate(folder)["tokens"] == len(ids) - 1, "its own text was of this kind"


def test_how_files_are_read_can_be_said(trained: primer.Run, place: Path, says: Says) -> None:
    lines = [json.dumps({"content": f"two times {n} is {2 * n}."}) + "\n" for n in range(30)]
    (place / "other.jsonl").write_text("".join(lines))
    with pytest.raises(DataError) as caught, own_flags():
        trained.evaluate(place / "other.jsonl")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("--field")
    found = json.loads(says(f"--on={place / 'other.jsonl'}", "--field=content", "--json"))
    assert found["tokens"] > 300
    (place / "old.txt").write_bytes("zwei mal zwei für vier".encode("latin-1"))
    score = json.loads(says(f"--on={place / 'old.txt'}", "--encoding=latin-1", "--json"))
    assert score["tokens"] == len("zwei mal zwei für vier".encode()) - 1


def test_a_limit_of_questions_needs_a_task(trained: primer.Run, place: Path) -> None:
    with pytest.raises(UsageError, match="--limit counts the questions"):
        evaluate([str(trained.path), f"--on={place / 'a, b.txt'}", "--limit=3"])
