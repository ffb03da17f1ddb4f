"""A finished corpus, looked at: its documents, a page of it explained, and two corpora beside each other."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from crawls import archive, page, prose, record, records
from primer.corpus.refine import inputs
from primer.corpus.refine.compared import compared
from primer.corpus.refine.explain import Explained, in_corpus, of_file, offending
from primer.corpus.refine.kept import Corpus, Kept, is_finished
from primer.corpus.refine.plan import Plan, make, open_plan
from primer.corpus.refine.recipe import Recipe, resolve
from primer.corpus.refine.run import run
from primer.corpus.refine.store import stored
from primer.errors import DataError

OTHER = "http://other.example/0"


def recipe(**flags: object) -> Recipe:
    return resolve("fineweb-fast", {key.replace("__", "."): value for key, value in flags.items()}).config


def planned(config: Recipe, paths: Sequence[Path], out: Path) -> Plan:
    """Each of the archives is a unit of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "UNIT_LEAST", 20_000)
        return make(config, paths, out, lambda *_: None)


def rows_of(*paths: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(paths) for table in stored(path) for row in table.to_pylist()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`crawl`, two archives; `corpus`, by the recipe as it is; `other`, with braces and of at least 420 words."""
    folder = tmp_path_factory.mktemp("looked-at")
    paths = [
        archive(folder / "crawl" / f"{name}.warc.gz", records(first, 5))
        for name, first in (("b", 100), ("a", 0))
    ]
    plan = planned(recipe(), paths, folder / "corpus")
    assert len(plan.units) == 2
    run(plan, 1)
    shutil.copytree(folder / "corpus", folder / "other")
    flags = {"c4__curly_bracket": False, "quality__min_words": 420}
    run(planned(recipe(**flags), paths, folder / "other"), 1)
    return folder


@pytest.fixture(scope="module")
def corpus(place: Path) -> Corpus:
    return Corpus.open(place / "corpus")


def dropped(out: Path) -> dict[str, tuple[str, str]]:
    """(stage, reason) by address."""
    return {row["url"]: (row["stage"], row["reason"]) for row in rows_of(*out.glob("dropped/*/*.parquet"))}


def test_documents_come_in_the_order_of_the_files_names(corpus: Corpus) -> None:
    found = list(corpus.documents())
    places = [(each.id.partition("#")[0], int(each.id.partition("#")[2])) for each in found]
    assert places == sorted(places)
    assert [each.source for each in found] == [name for name, _ in places]
    assert {name for name, _ in places} == {"a.warc.gz", "b.warc.gz"}
    assert corpus.size == len(found) == 12
    assert [each.url for each in found[:6]] == [
        *(f"http://example.org/{number}" for number in range(5)), f"{OTHER}/mail",
    ]  # fmt: skip
    assert found[0].text == "\n".join(prose(0))


def test_copies_are_called_by_the_one_that_stands_for_them(place: Path, corpus: Corpus) -> None:
    kept = {each.url: each for each in corpus.documents()}
    assert all(each.cluster == each.id for each in kept.values())
    rows = rows_of(*place.glob("corpus/dropped/dedup/*"))
    clusters = {row["url"]: row["cluster"] for row in rows}
    assert clusters[f"{OTHER}/copy"] == clusters[f"{OTHER}/near"] == kept["http://example.org/0"].id


def test_what_is_held_out_follows_from_the_cluster_alone() -> None:
    documents = [Kept(f"a#{n}", "", "a", "", f"cluster {n // 2}") for n in range(8000)]
    for fraction in (0.1, 0.3):
        held = [each.is_held_out(fraction) for each in documents]
        assert held[::2] == held[1::2], "copies never lie on both sides"
        assert sum(held) / len(held) == pytest.approx(fraction, abs=0.02)
        expected = [
            int(blake2b(each.cluster.encode(), digest_size=8).hexdigest(), 16) / 2**64 < fraction
            for each in documents
        ]
        assert held == expected, "and it is the same for ever"
    assert not any(each.is_held_out(0) for each in documents)
    assert all(each.is_held_out(1) for each in documents)
    assert all(each.is_held_out(0.3) for each in documents if each.is_held_out(0.1))
    assert Kept("", "", "", "", "a\ud800").is_held_out(1)


def test_a_corpus_is_known_by_what_it_was_made_from_and_how(
    place: Path, corpus: Corpus, tmp_path: Path
) -> None:
    moved = [Path(shutil.copy(path, tmp_path)) for path in sorted((place / "crawl").iterdir())]

    def key(paths: list[Path], **flags: object) -> str:
        return Corpus(planned(recipe(**flags), paths, tmp_path / "out")).key

    assert key(moved) == key(moved[::-1]) == corpus.key
    assert key(moved, tokens__vocabulary=300) == corpus.key
    others = [key(moved[:1]), key(moved, pii__emails=False), key(moved, fineweb__max_char_dup=0.1)]
    moved[0].write_bytes(moved[0].read_bytes() * 2)
    assert len({corpus.key, *others, key(moved)}) == 5


def test_a_corpus_that_is_not_whole_is_not_opened(place: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no corpus is here"):
        Corpus.open(tmp_path)
    out = tmp_path / "out"
    shutil.copytree(place / "corpus", out)
    assert is_finished(open_plan(out))
    path, *_ = sorted(out.glob("kept/*"))
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(DataError, match="not finished") as error:
        Corpus.open(out)
    assert error.value.where == str(out)
    path.write_bytes(data)
    assert Corpus.open(out).size == 12
    receipt, *_ = out.glob("work/finish-*/*.json")
    receipt.unlink()
    with pytest.raises(DataError, match="not finished"):
        Corpus.open(out)


def test_every_page_of_a_corpus_is_explained_as_it_was_decided(place: Path, corpus: Corpus) -> None:
    decided = dropped(place / "corpus")
    urls = [*decided, *(each.url for each in corpus.documents())]
    assert len(urls) == 29, "two of thirty have the same address"
    for url in urls:
        found = in_corpus(corpus.plan, url)
        stage, reason = decided.get(url, (None, None))
        if stage == "dedup":  # is found out from all pages, not from one
            stage, reason = None, None
        assert (found.url, found.stage, found.reason) == (url, stage, reason)
        assert in_corpus(corpus.plan, found.id).plain() == found.plain()
        assert (found.why == "it stands") == (stage is None)
    with pytest.raises(DataError, match=r"no page 'http://example\.org/none'"):
        in_corpus(corpus.plan, "http://example.org/none")


def test_every_statistic_stands_beside_its_threshold(corpus: Corpus) -> None:
    short = in_corpus(corpus.plan, f"{OTHER}/short")
    assert short.reason == "gopher_short_doc"
    (words,) = [line for line in short.lines if line.setting == "quality.min_words"]
    assert (words.stage, words.column, words.above) == ("quality", "n_words", False)
    assert (words.threshold, words.dropped) == (50, True)
    assert 0 < float(words.value) < 50
    (most,) = [line for line in short.lines if line.setting == "quality.max_words"]
    assert (most.value, most.above, most.dropped) == (words.value, True, False)
    good = in_corpus(corpus.plan, "http://example.org/0")
    assert len(good.lines) > 25
    assert not any(line.dropped for line in good.lines)
    assert good.languages[0][0] == "en"
    again = in_corpus(corpus.plan, f"{OTHER}/again")
    assert "repetition.dup_para_frac" in [line.setting for line in again.lines if line.dropped]
    assert in_corpus(corpus.plan, f"{OTHER}/request").lines == ()


def explained(path: Path, data: bytes | str, **flags: object) -> Explained:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return of_file(path, recipe(**flags))


def test_a_page_is_explained_without_a_corpus(tmp_path: Path) -> None:
    text = prose(7)
    html = explained(tmp_path / "a.html", page(text))
    assert (html.stage, html.charset.lower()) == (None, "utf-8")
    assert html.text.split() == " ".join(text).split()
    assert explained(tmp_path / "a.txt", html.text).plain() == {
        **html.plain(),
        "id": "a.txt#0",
        "charset": "",
    }
    packed = archive(
        tmp_path / "a.warc.gz", [*records(0, 0)[-3:-2], record("http://x.example/7", page(text))]
    )
    assert of_file(packed, recipe()).url == "http://x.example/7"
    assert of_file(packed, recipe()).lines == html.lines
    strict = explained(tmp_path / "a.html", page(text), quality__min_words=1000)
    assert (strict.stage, strict.reason) == ("quality", "gopher_short_doc")
    assert explained(tmp_path / "b.html", page([])).reason == "no_text"


def test_what_c4_takes_out_of_a_page_is_counted(tmp_path: Path) -> None:
    line = "You will have to turn on javascript to read all of this page."
    text = "\n".join([*prose(7, 8), line, *prose(8, 8)])
    found = explained(tmp_path / "a.txt", text)
    assert found.stage is None
    assert found.text == text, "what is shown is what was extracted"
    assert found.lost == len(line) + 1
    assert explained(tmp_path / "a.txt", text, c4__on=False).lost == 0


def test_a_file_without_a_page_is_said(tmp_path: Path) -> None:
    packed = archive(
        tmp_path / "a.warc.gz", [record("http://x.example/", b"GET / HTTP/1.1\r\n\r\n", "request")]
    )
    with pytest.raises(DataError, match="no page is in it") as error:
        of_file(packed, recipe())
    assert error.value.where == str(packed)


def test_the_offence_of_a_dropped_page_is_shown_in_its_text(place: Path) -> None:
    rows = rows_of(*place.glob("corpus/dropped/c4/*"))
    assert len(rows) == 2
    for row in rows:
        assert {row["text"][start:stop] for start, stop in offending(row)} == {"{"}
    assert list(offending({"text": None, "reason": "curly_bracket"})) == []


def test_two_corpora_are_compared_by_what_each_kept(place: Path) -> None:
    """The other keeps pages with braces, and drops those of nothing but sixteen sentences of prose: all but mails."""
    found = compared(place / "corpus", place / "other", examples=3)
    assert (found["both"], found["only_one"], found["only_other"]) == (2, 10, 2)
    assert found["overlap"] == pytest.approx(2 / 14)
    by_one, by_other = found["reasons"]
    assert by_one == {
        "by": str(place / "corpus"),
        "stage": "c4",
        "reason": "curly_bracket",
        "documents": 2,
        "examples": ["http://other.example/0/braces", "http://other.example/100/braces"],
    }
    assert {**by_other, "examples": len(by_other["examples"])} == {
        "by": str(place / "other"),
        "stage": "quality",
        "reason": "gopher_short_doc",
        "documents": 10,
        "examples": 3,
    }
    assert by_other["examples"] == [f"http://example.org/{number}" for number in (0, 1, 100)]


def test_it_does_not_matter_which_corpus_is_named_first(place: Path) -> None:
    one = compared(place / "corpus", place / "other", 3)
    other = compared(place / "other", place / "corpus", 3)
    assert (other["only_one"], other["only_other"]) == (one["only_other"], one["only_one"])
    assert (other["both"], other["overlap"]) == (one["both"], one["overlap"])
    assert other["reasons"] == one["reasons"][::-1]
    with pytest.raises(DataError, match="no corpus is here"):
        compared(place / "corpus", place / "crawl", 3)


def test_a_corpus_beside_its_copy_has_no_difference(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "corpus", tmp_path / "copy")
    assert compared(place / "corpus", tmp_path / "copy", 3) == {
        "both": 12,
        "only_one": 0,
        "only_other": 0,
        "overlap": 1.0,
        "reasons": [],
    }


def test_a_corpus_beside_itself_has_no_difference(place: Path) -> None:
    assert compared(place / "corpus", place / "corpus", 3)["both"] == 12
