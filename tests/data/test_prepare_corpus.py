"""A refined corpus becomes shards: which documents, in which split, with what written beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crawls import archive, records
from primer.corpus.refine.kept import Corpus
from primer.corpus.refine.plan import make
from primer.corpus.refine.recipe import resolve
from primer.corpus.refine.run import run
from primer.data.foreign import open_foreign
from primer.data.llmc import write_llmc
from primer.data.manifest import SPLITS
from primer.data.prepare_corpus import DOCUMENTS, Settings, prepare_corpus
from primer.data.shards import ShardDirectory
from primer.errors import DataError, UsageError
from primer.tokens.tokenizer import END_OF_TEXT


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    path = archive(folder / "a.warc.gz", [*records(0, 10), *records(300, 10)])
    flags = {"dedup.minhash": False, "dedup.exact": False}  # copies stay, so that they can be looked for
    run(make(resolve("fineweb-fast", flags).config, [path], folder / "out", lambda *_: None), 1)
    return Corpus.open(folder / "out")


def lines(shards: ShardDirectory) -> list[dict[str, object]]:
    return [json.loads(line) for line in (shards.path / DOCUMENTS).read_text("utf-8").splitlines()]


def test_every_document_is_where_it_is_said_to_be(corpus: Corpus, tmp_path: Path) -> None:
    shards = prepare_corpus(corpus, tmp_path / "shards", Settings("train", 300, 0.3))
    texts = {document.id: document.text for document in corpus.documents()}
    found = lines(shards)
    assert {line["id"] for line in found} == texts.keys()
    for line in found:
        start, count = line["start"], line["tokens"]
        ids = shards.tokens(line["split"])[start : start + count]
        assert shards.tokenizer.decode(ids[1:]) == texts[line["id"]]
        assert ids[0] == shards.tokenizer.special_tokens[END_OF_TEXT]


def test_validation_follows_from_the_name_of_the_cluster(corpus: Corpus, tmp_path: Path) -> None:
    shards = prepare_corpus(corpus, tmp_path / "shards", Settings("train", 300, 0.3))
    held_out = {document.id for document in corpus.documents() if document.is_held_out(0.3)}
    assert {line["id"] for line in lines(shards) if line["split"] == "validation"} == held_out
    assert 0 < len(held_out) < len(lines(shards)) / 2
    more = {document.id for document in corpus.documents() if document.is_held_out(0.6)}
    assert held_out < more


def test_equally_many_tokens_are_taken(corpus: Corpus, tmp_path: Path) -> None:
    whole = prepare_corpus(corpus, tmp_path / "whole", Settings("train", 300, 0.3))
    tokenizer = str(whole.path / "tokenizer.json")
    cut = prepare_corpus(corpus, tmp_path / "cut", Settings(tokenizer, 300, 0.3, train_tokens=1000))
    assert len(cut.tokens("train")) == 1000
    assert len(cut.tokens("validation")) == len(whole.tokens("validation"))
    with pytest.raises(DataError, match="were asked for"):
        prepare_corpus(corpus, tmp_path / "more", Settings(tokenizer, 300, 0.3, train_tokens=10**9))


def test_the_same_is_not_written_twice_and_nothing_is_written_over(corpus: Corpus, tmp_path: Path) -> None:
    settings = Settings("train", 300, 0.3)
    shards = prepare_corpus(corpus, tmp_path / "shards", settings)
    stamp = (shards.path / "manifest.json").stat().st_mtime_ns
    again = prepare_corpus(corpus, tmp_path / "shards", settings)
    assert again.fingerprint == shards.fingerprint
    assert (shards.path / "manifest.json").stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="other shards"):
        prepare_corpus(corpus, tmp_path / "shards", Settings("train", 301, 0.3))


def test_a_tokenizer_without_borders_and_an_empty_split_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="where documents begin"):
        prepare_corpus(corpus, tmp_path / "shards", Settings("byte", 300, 0.3))
    with pytest.raises(DataError, match="validation"):
        prepare_corpus(corpus, tmp_path / "shards", Settings("train", 300, 1e-9))
    assert not (tmp_path / "shards").exists()


def test_what_lies_beside_the_shards_is_sealed(corpus: Corpus, tmp_path: Path) -> None:
    from primer.assets import sha256_of

    shards = prepare_corpus(corpus, tmp_path / "shards", Settings("train", 300, 0.3))
    assert shards.source[DOCUMENTS] == sha256_of(shards.path / DOCUMENTS)


def test_llmc_layout_holds_the_same_ids(corpus: Corpus, tmp_path: Path) -> None:
    shards = prepare_corpus(corpus, tmp_path / "shards", Settings("train", 300, 0.3))
    files = write_llmc(shards, tmp_path / "llm.c", file_tokens=1000)
    assert {"train_000000.bin", "train_000001.bin", "val_000000.bin"} <= {file.name for file in files}
    found = open_foreign(tmp_path / "llm.c", shards.tokenizer)
    for split in SPLITS:
        assert (found.tokens(split)[:] == shards.tokens(split)[:]).all()
        assert len(found.tokens(split)) == len(shards.tokens(split))
