"""Scores of a run on pairs: BLEU by sacrebleu; of other pairs, how they are read, and in which direction."""

import sys
from pathlib import Path
from typing import Any

import pytest
import sacrebleu

import primer
from primer.errors import DataError, SurroundingsError, UsageError
from primer.recipes import pair_scores
from primer.recipes.pair_scores import PairReading, pairs_of
from primer.recipes.translating import Translated
from primer.recipes.translation import text_of
from setups import TINY_PAIRS, reversed_digits


def trained(folder: Path, **flags: Any) -> primer.Run:
    return primer.train(
        "translation", flags={**TINY_PAIRS, "train.steps": 3, **flags}, runs_dir=folder / "runs"
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> primer.Run:
    folder = tmp_path_factory.mktemp("scores")
    return trained(folder, **{"data.source": str(reversed_digits(folder))})


def read(run: primer.Run, *what: Any, **how: Any) -> list[tuple[str, str]]:
    """Pairs as they are read for a run, as text."""
    pairs = pairs_of(run, *what, how=PairReading(**how))
    sides = (
        [text_of(side[n], run.tokenizer) for n in range(len(pairs))] for side in (pairs.source, pairs.target)
    )
    return list(zip(*sides, strict=True))


def test_scores_are_sacrebleus(run: primer.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of translations that share some words with their references: neither 0 nor 100, and not the other way."""
    references = ["ein mann geht mit dem hund", "zwei kinder im park", "eine frau schläft", "sie lacht"]
    texts = ["ein mann geht mit der frau aus", "zwei kinder spielen im park", "eine frau", "sie lacht"]
    (tmp_path / "pairs.tsv").write_text("".join(f"{n}\t{line}\n" for n, line in enumerate(references)))
    found = [Translated(text, -1.0, -1.0, (), ended=True) for text in texts]
    monkeypatch.setattr(pair_scores, "search", lambda *values, **named: found)
    score = run.evaluate_pairs(tmp_path / "pairs.tsv", resamples=100)
    wanted = sacrebleu.corpus_bleu(texts, [references])
    assert 10 < wanted.score < 90
    assert wanted.score != pytest.approx(sacrebleu.corpus_bleu(references, [texts]).score, abs=0.1)
    assert score["bleu"] == pytest.approx(wanted.score)
    assert score["bleu_low"] < score["bleu"] < score["bleu_high"]
    assert score["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, [references]).score)
    assert score["exact"] == 0.25
    assert (score["pairs"], score["left_out"]) == (4, 0)


PAIRS = [("12", "21"), ("345", "543")]


def test_without_sacrebleu_nothing_is_translated_first(
    run: primer.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    monkeypatch.setattr(pair_scores, "score_pairs", None)
    with pytest.raises(SurroundingsError, match="sacrebleu"):
        run.evaluate_pairs("test")


def files(folder: Path, name: str = "a") -> tuple[Path, Path]:
    """Two files, a sentence a line."""
    sides = folder / f"{name}.en", folder / f"{name}.de"
    for side, path in enumerate(sides):
        path.write_text("".join(f"{pair[side]}\n" for pair in PAIRS))
    return sides


def test_field_names_are_for_what_has_names(tmp_path: Path) -> None:
    """A run of a folder, whose files it had to name: every other kind of text is read without them."""
    reversed_digits(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    rows = [line.split("\t") for line in (tmp_path / "backwards.tsv").read_text().splitlines()]
    for side, language in enumerate(("en", "de")):
        (folder / f"train.{language}").write_text("".join(f"{row[side]}\n" for row in rows))
    named = {"data.source_field": "en", "data.target_field": "de"}
    run = trained(tmp_path, **{"data.source": str(folder), **named})
    assert read(run, *files(tmp_path)) == PAIRS
    (tmp_path / "a.tsv").write_text("12\t21\n345\t543\n")
    assert read(run, tmp_path / "a.tsv") == PAIRS
    (tmp_path / "a.jsonl").write_text('{"number": "12", "en": "12", "de": "21"}\n')
    assert read(run, tmp_path / "a.jsonl", source_field="en", target_field="de") == PAIRS[:1]
    assert len(read(run, folder)) == len(rows)  # of the run's own kind: its own names
    assert [pair[::-1] for pair in read(run, folder, source_field="de", target_field="en")] == read(
        run, folder
    )
    assert len(read(run, "dates")) == 1000


def test_the_direction_is_that_of_the_run(tmp_path: Path) -> None:
    """A run that was swapped reads other files swapped, too, unless they say themselves which side is which."""
    run = trained(tmp_path, **{"data.source": str(reversed_digits(tmp_path)), "data.swap": True})
    (tmp_path / "a.tsv").write_text("12\t21\n345\t543\n")
    assert read(run, tmp_path / "a.tsv") == [pair[::-1] for pair in PAIRS]
    assert read(run, *files(tmp_path)) == PAIRS
    (tmp_path / "b.jsonl").write_text('{"en": "12", "de": "21"}\n')
    assert read(run, tmp_path / "b.jsonl", source_field="en", target_field="de") == PAIRS[:1]


def test_bytes_are_read_as_was_asked(run: primer.Run, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes("schön\tpretty\n".encode("cp1252"))
    with pytest.raises(DataError, match="utf-8") as caught:
        run.evaluate_pairs(tmp_path / "a.tsv")
    assert "--data.encoding=" in str(caught.value.hint)
    assert read(run, tmp_path / "a.tsv", encoding="cp1252") == [("schön", "pretty")]
    assert read(run, tmp_path / "a.tsv", encoding_errors="ignore") == [("schn", "pretty")]


def test_what_is_left_out_of_other_pairs_is_said(
    run: primer.Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.tsv").write_text("12\t21\n\t4\n" + "1" * 50 + "\t1\n")
    found = run.evaluate_pairs(tmp_path / "a.tsv")
    assert (found["pairs"], found["left_out"]) == (1, 1)
    assert "1 empty on the source side (a.tsv:2" in caplog.text


def test_a_target_stands_beside_a_text(run: primer.Run, tmp_path: Path) -> None:
    for text in (None, "validation", "test"):
        with pytest.raises(UsageError, match="none is named"):
            run.evaluate_pairs(text, tmp_path / "a.de")
