"""`primer corpus`, as a person meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crawls import NOUNS, archive, page, prose, records
from primer.cli.main import main

Capture = pytest.CaptureFixture[str]
VERBS = ("run", "plan", "report", "inspect", "explain", "diff", "classifier", "ablate")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crawl, its corpus, and a page."""
    folder = tmp_path_factory.mktemp("corpus")
    archive(folder / "crawl.warc.gz", [*records(0, 8), *records(300, 8)])
    (folder / "page.html").write_bytes(page(prose(77)))
    words = [
        str(folder / "crawl.warc.gz"),
        f"--out={folder / 'corpus'}",
        "-j",
        "1",
        "--tokens.vocabulary=300",
    ]
    assert main(["corpus", "run", "fineweb-fast", *words, "--tokens.validation-fraction=0.3"]) == 0
    return folder


def said(capsys: Capture, *words: str) -> str:
    assert main(["corpus", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_help_teaches(verb: str, capsys: Capture) -> None:
    text = said(capsys, verb, "--help")
    assert text.count(f"primer corpus {verb}") >= 3
    assert "torch" not in text


def test_what_was_made_is_there_and_trains(place: Path, tmp_path: Path, capsys: Capture) -> None:
    corpus = place / "corpus"
    found = json.loads((corpus / "report.json").read_text("utf-8"))
    assert (
        found["totals"]["in"]["documents"]
        == found["totals"]["kept"]["documents"] + found["totals"]["dropped"]["documents"]
    )
    assert found["tokens"]["train"] > 0
    assert (corpus / "report.html").read_text("utf-8").startswith("<!doctype html>")
    small = ["--model.d-model=16", "--model.n-heads=2", "--train.steps=2", "--model.context-length=16"]
    small += [
        "--train.evaluate-tokens=64",
        "--schedule.warmup=1",
        f"--runs-dir={tmp_path}",
        "--train.device=cpu",
    ]
    assert main(["train", "tiny", f"--data.source={corpus / 'shards'}", *small]) == 0


def test_every_document_of_the_shards_is_told_of(place: Path) -> None:
    shards = place / "corpus" / "shards"
    lines = [json.loads(line) for line in (shards / "documents.jsonl").read_text("utf-8").splitlines()]
    manifest = json.loads((shards / "manifest.json").read_text("utf-8"))
    for split in ("train", "validation"):
        mine = [line for line in lines if line["split"] == split]
        assert [line["start"] for line in mine] == [
            sum(each["tokens"] for each in mine[:n]) for n in range(len(mine))
        ]
        assert sum(line["tokens"] for line in mine) == manifest["counts"][split]["tokens"]


def test_the_report_adds_up(place: Path, capsys: Capture) -> None:
    found = json.loads(said(capsys, "report", str(place / "corpus"), "--json"))
    going = found["totals"]["in"]
    for stage in found["stages"]:
        assert stage["in"] == going
        for name, value in going.items():
            assert sum(reason[name] for reason in stage["reasons"]) == stage["dropped"][name]
            assert stage["out"][name] == value - stage["dropped"][name]
        going = stage["out"]
    assert going == found["totals"]["kept"]
    assert "near_duplicate" in said(capsys, "report", str(place / "corpus"))


def test_a_dropped_document_is_shown_with_its_offence(place: Path, capsys: Capture) -> None:
    text = said(capsys, "inspect", str(place / "corpus"), "--reason=curly_bracket", "-n", "1")
    assert "/braces" in text
    assert "⟦{⟧" in text or "⟦" in text
    rows = said(capsys, "inspect", str(place / "corpus"), "--stage=dedup", "--json").splitlines()
    assert {json.loads(row)["reason"] for row in rows} == {"exact_duplicate", "near_duplicate"}


def test_a_reason_that_does_not_occur_names_the_nearest(place: Path, capsys: Capture) -> None:
    assert main(["corpus", "inspect", str(place / "corpus"), "--reason=curly"]) == 4
    assert "--reason=curly_bracket" in capsys.readouterr().err


def test_a_page_is_explained(place: Path, capsys: Capture) -> None:
    text = said(capsys, "explain", str(place / "page.html"), "--by=fineweb-fast")
    assert "→ it stands" in text
    assert "share of lines that end in punctuation" in text
    text = said(capsys, "explain", str(place / "page.html"), "--by=fineweb-fast", "--quality.min-words=10000")
    assert "gopher_short_doc" in text
    found = json.loads(
        said(capsys, "explain", "http://other.example/0/german", f"--corpus={place / 'corpus'}", "--json")
    )
    assert found["reason"] == "language_de"


def test_two_corpora_are_compared(place: Path, tmp_path: Path, capsys: Capture) -> None:
    words = [
        str(place / "crawl.warc.gz"),
        f"--out={tmp_path}",
        "-j1",
        "--tokens.tokenizer=none",
        "--c4.curly-bracket=false",
    ]
    assert main(["corpus", "run", "fineweb-fast", *words]) == 0
    capsys.readouterr()
    found = json.loads(said(capsys, "diff", str(place / "corpus"), str(tmp_path), "--json"))
    assert found["only_one"] == 0
    assert found["only_other"] == 2
    assert [each["reason"] for each in found["reasons"]] == ["curly_bracket"]


def test_a_plan_writes_nothing(place: Path, capsys: Capture) -> None:
    before = sorted(place.rglob("*"))
    found = json.loads(said(capsys, "plan", "fineweb-fast", str(place / "crawl.warc.gz"), "--json"))
    assert (found["files"], found["sampled"]) == (1, 36)
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (["run", "finweb", "x.warc"], 2, "fineweb"),
        (["run", "fineweb"], 2, "primer corpus run"),
        (["run", "fineweb", "missing.warc"], 4, "look at its name"),
        (["run", "fineweb", "x.warc", "--fineweb.max-char-dub=1"], 2, "max-char-dup"),
        (["report", "nothing"], 4, "primer corpus run"),
        (["explode"], 2, "explain"),
        (["diff", "one"], 2, "primer corpus diff"),
        (["run", "fineweb", "x.warc", "--engine=cloud"], 2, "processes"),
    ],
)
def test_mistakes_are_named(
    words: list[str], code: int, hint: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["corpus", *words]) == code
    assert hint in capsys.readouterr().err


def test_strict_ends_with_4_and_keeps_everything(tmp_path: Path, capsys: Capture) -> None:
    path = archive(tmp_path / "a.warc.gz", records(0, 3))
    path.write_bytes(path.read_bytes()[:-40])
    words = [str(path), f"--out={tmp_path / 'out'}", "-j1", "--tokens.tokenizer=none"]
    assert main(["corpus", "run", "fineweb-fast", *words, "--strict"]) == 4
    assert "could not be read whole" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.html").is_file()
    assert main(["corpus", "run", "fineweb-fast", *words]) == 0


def test_nothing_left_says_which_rule_took_it(tmp_path: Path, capsys: Capture) -> None:
    path = archive(tmp_path / "a.warc.gz", records(0, 3))
    assert (
        main(
            [
                "corpus",
                "run",
                "fineweb-fast",
                str(path),
                f"--out={tmp_path / 'out'}",
                "--quality.min-words=9999",
            ]
        )
        == 4
    )
    assert "gopher_short_doc took" in capsys.readouterr().err


def test_labels_become_a_classifier(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("floret", reason="classifiers are trained with floret")
    lines = [{"text": " ".join(prose(n, 2)), "label": "good"} for n in range(15)]
    lines += [
        {"text": f"buy {NOUNS[n]} now, cheap {NOUNS[n + 1]}, free {NOUNS[n + 2]}", "label": "bad"}
        for n in range(15)
    ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    text = said(capsys, "classifier", str(tmp_path / "labels.jsonl"), f"--out={tmp_path / 'model.bin'}")
    assert "right on 100.0%" in text


def test_ablate_refuses_what_is_no_arm(tmp_path: Path, capsys: Capture) -> None:
    assert main(["corpus", "ablate", "fineweb-fast", "x.warc", "--arm=nonsense"]) == 2
    assert '--arm="no-c4: c4.on=false"' in capsys.readouterr().err
