"""`primer corpus` the second time: another threshold, another place, evaluation files, what fails and what is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crawls import archive, page, prose, record, records
from primer.cli.main import main
from primer.corpus.refine.kept import Corpus

Capture = pytest.CaptureFixture[str]
ITEM = "nobody has ever asked the old grammar how it would rather be remembered by strangers"


def made(capsys: Capture, out: Path, *words: str, code: int = 0) -> dict[str, Any]:
    """What `primer corpus run` says."""
    capsys.readouterr()
    assert main(["corpus", "run", "fineweb-fast", *words, f"--out={out}", "-j", "1", "--json"]) == code
    said = capsys.readouterr()
    return dict(json.loads(said.out)) if not code else {"error": said.err}


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """Pages that stand, two of them short and with an item of an evaluation."""
    asked = [
        record(f"http://e.example/{n}", page([*prose(90 + n, 8), f"{ITEM.capitalize()}."])) for n in range(2)
    ]
    return archive(tmp_path / "crawl.warc.gz", [*records(0, 6), *asked])


TOKENS = ("--tokens.vocabulary=300", "--tokens.validation-fraction=0.3")


def test_evaluations_are_looked_for_and_what_is_left_is_counted(
    crawl: Path, tmp_path: Path, capsys: Capture
) -> None:
    exam = tmp_path / "exam.jsonl"
    exam.write_text(json.dumps({"text": ITEM}) + "\n", "utf-8")
    files = f"--decontaminate.files={exam}"
    for action, kept in (("drop", 0), ("mask", 2), ("report", 2)):
        out = tmp_path / action
        found = made(
            capsys,
            out,
            str(crawl),
            "--tokens.tokenizer=none",
            files,
            f"--decontaminate.action={action}",
        )
        documents = list(Corpus.open(out).documents())
        assert sum(each.url.startswith("http://e.example") for each in documents) == kept, action
        assert found["words"] == sum(len(each.text.split()) for each in documents), action
        assert any(ITEM in each.text.lower() for each in documents) == (action == "report")
        said = json.loads((out / "report.json").read_text("utf-8"))["contamination"]
        assert said["items"] == [["exam.jsonl:1", 2]]


def test_another_threshold_replaces_the_shards(crawl: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    first = made(capsys, out, str(crawl), *TOKENS, "--tokens.llmc=true")
    second = made(capsys, out, str(crawl), *TOKENS, "--tokens.llmc=true", "--quality.min-words=300")
    assert second["kept"] < first["kept"]
    assert second["measured"] == 0
    manifest = json.loads((out / "shards" / "manifest.json").read_text("utf-8"))
    tokens = {split: counts["tokens"] for split, counts in manifest["counts"].items()}
    assert {split: second["tokens"][split] for split in tokens} == tokens
    assert sum(tokens.values()) < sum(first["tokens"][split] for split in tokens)
    ids = sum((file.stat().st_size - 1024) // 2 for file in (out / "llm.c").glob("*.bin"))
    assert ids == sum(tokens.values())


def test_shards_of_another_selection_are_not_reported(crawl: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert made(capsys, out, str(crawl), *TOKENS)["tokens"]
    found = made(capsys, out, str(crawl), "--tokens.tokenizer=none", "--quality.min-words=300")
    assert found["tokens"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-j", "-1"], "cannot do anything"),
        (["--tokens.validation-fraction=0"], "between 0 and 1"),
        (["--tokens.tokenizer=gtp2"], "gtp2"),
        (["--tokens.vocabulary=-5"], "257 or more"),
        (["--dedup.buckets=0"], "1 or more"),
        (["--extract.seconds=-1"], "0 or more"),
        (["--language.threshold=0.1"], "nothing is measured"),
        (["--urls.lists=/nowhere"], "no list of addresses"),
        (["--decontaminate.files=/nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(
    crawl: Path, tmp_path: Path, capsys: Capture, words: list[str], says: str
) -> None:
    code = main(["corpus", "run", "fineweb-fast", str(crawl), f"--out={tmp_path / 'out'}", *words])
    assert code in (2, 3, 4, 5)
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_that_fails_at_once_leaves_the_corpus_that_was_there(
    crawl: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    before = made(capsys, out, str(crawl), "--tokens.tokenizer=none")
    assert main(["corpus", "run", "fineweb-fast", str(crawl), f"--out={out}", "--urls.lists=/nowhere"]) != 0
    assert main(["corpus", "report", str(out)]) == 0
    assert Corpus.open(out).size == before["kept"]


def test_a_corpus_is_read_from_anywhere(
    crawl: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was made with was named from where one stood."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "domains").write_text("other.example\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    made(capsys, Path("out"), crawl.name, "--tokens.tokenizer=none", "--urls.lists=lists")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["corpus", "report", "../out"]) == 0
    assert main(["corpus", "inspect", "../out", "--reason=kept", "-n", "1"]) == 0


def test_a_list_elsewhere_measures_nothing_again(crawl: Path, tmp_path: Path, capsys: Capture) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "domains").write_text("nobody.example\nk\xf6ln.example\n", "latin-1")
    out = tmp_path / "out"
    for name, measured in (("one", 1), ("two", 0)):
        words = ["--tokens.tokenizer=none", f"--urls.lists={tmp_path / name}"]
        assert made(capsys, out, str(crawl), *words)["measured"] == measured


def test_what_is_not_finished_is_not_compared(crawl: Path, tmp_path: Path, capsys: Capture) -> None:
    made(capsys, tmp_path / "one", str(crawl), "--tokens.tokenizer=none")
    made(capsys, tmp_path / "two", str(crawl), "--tokens.tokenizer=none")
    for path in (tmp_path / "two").glob("work/finish-*/*.json"):
        path.unlink()
    for words in (["diff", str(tmp_path / "one"), str(tmp_path / "two")], ["inspect", str(tmp_path / "two")]):
        assert main(["corpus", *words]) == 4
        assert "not finished" in capsys.readouterr().err


def test_strict_is_about_what_is_broken_and_not_about_what_is_large(tmp_path: Path, capsys: Capture) -> None:
    lines = [json.dumps({"text": " ".join(prose(number))}) for number in range(6)]
    texts = tmp_path / "texts.jsonl"
    texts.write_text("\n".join([*lines, json.dumps({"text": "long " * 20_000})]), "utf-8")
    words = [
        "corpus",
        "run",
        "plain",
        str(texts),
        "--tokens.tokenizer=none",
        "--strict",
        "--records.max-bytes=50000",
    ]
    assert main([*words, f"--out={tmp_path / 'large'}"]) == 0
    texts.write_text("\n".join([*lines, "{broken"]), "utf-8")
    assert main([*words, f"--out={tmp_path / 'broken'}"]) == 4
    assert f"primer corpus inspect {tmp_path / 'broken'} --stage=records" in capsys.readouterr().err


def test_a_page_of_a_corpus_is_explained_by_its_own_recipe(
    crawl: Path, tmp_path: Path, capsys: Capture
) -> None:
    made(capsys, tmp_path / "out", str(crawl), "--tokens.tokenizer=none")
    words = ["corpus", "explain", "http://e.example/0", f"--corpus={tmp_path / 'out'}"]
    assert main(words) == 0
    assert main([*words, "--by=fineweb"]) == 2
    assert main(["corpus", "explain", "missing.html", f"--corpus={tmp_path / 'nowhere'}"]) == 4
    assert "neither is there a file" in capsys.readouterr().err
