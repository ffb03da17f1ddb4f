"""Beyond FineWeb's recipe: texts of evaluations are found, and a classifier is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crawls import archive, page, prose, record
from primer.corpus.refine.kept import Corpus
from primer.corpus.refine.plan import make
from primer.corpus.refine.recipe import resolve
from primer.corpus.refine.report import merged
from primer.corpus.refine.run import run
from primer.corpus.refine.store import stored


@pytest.fixture
def crawl(tmp_path: Path) -> Path:
    """Two pages, of which one holds an item of an evaluation."""
    items = [{"question": prose(900, 1)[0], "answer": "yes"}, {"question": prose(901, 1)[0], "answer": "no"}]
    (tmp_path / "exam.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")
    leaked = [*prose(1, 8), items[1]["question"].upper().replace(",", " –"), *prose(2, 8)]
    pages = [record("http://x.example/clean", page(prose(3))), record("http://x.example/leak", page(leaked))]
    return archive(tmp_path / "a.warc.gz", pages)


def refined(out: Path, crawl: Path, **flags: object) -> dict[str, str]:
    """The texts that are kept, by address."""
    config = resolve("fineweb-fast", {key.replace("__", "."): value for key, value in flags.items()}).config
    run(make(config, [crawl], out, lambda *_: None), 1)
    return {each.url: each.text for each in Corpus.open(out).documents()}


@pytest.mark.parametrize("action", ["drop", "mask", "report"])
def test_an_item_of_an_evaluation_is_found(crawl: Path, tmp_path: Path, action: str) -> None:
    out = tmp_path / "out"
    kept = refined(
        out, crawl, decontaminate__files=(str(tmp_path / "exam.jsonl"),), decontaminate__action=action
    )
    clean, leak = "http://x.example/clean", "http://x.example/leak"
    assert merged(Corpus.open(out).plan)["items"] == {"exam.jsonl:2": 1}
    assert kept.keys() == ({clean} if action == "drop" else {clean, leak})
    if action == "drop":
        (path,) = out.glob("dropped/decontaminate/*.parquet")
        assert [row["items"] for table in stored(path) for row in table.to_pylist()] == [["exam.jsonl:2"]]
    else:
        said = " ".join(prose(901, 1)[0].split()[:6]).upper()
        assert (said in kept[leak]) == (action == "report")


def test_a_classifier_that_was_trained_here_is_asked(tmp_path: Path) -> None:
    pytest.importorskip("floret", reason="classifiers are trained with floret")
    from primer.corpus.text.classifier import train

    good = [(" ".join(prose(seed, 5)), "good") for seed in range(30)]
    bad = [
        (" ".join(f"the {word} was of no use to them" for word in prose(seed, 2)[0].split()), "bad")
        for seed in range(30)
    ]
    train([*good, *bad], tmp_path / "model.bin", epochs=10)
    pages = [
        record("http://x.example/good", page(prose(700))),
        record("http://x.example/bad", page([text for text, _ in bad[:1]] * 1 + [bad[1][0], bad[2][0]])),
    ]
    flags = {"repetition__on": False, "quality__on": False, "c4__min_sentences": 0, "fineweb__on": False}
    crawl = archive(tmp_path / "a.warc.gz", pages)
    assert len(refined(tmp_path / "all", crawl, **flags)) == 2
    kept = refined(tmp_path / "out", crawl, classifier__model=str(tmp_path / "model.bin"), **flags)
    assert kept.keys() == {"http://x.example/good"}
