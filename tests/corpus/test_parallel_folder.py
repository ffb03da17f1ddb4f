import gzip
from pathlib import Path

import pytest

from primer.corpus.pair import Pair
from primer.corpus.parallel import open_parallel
from primer.errors import DataError, UsageError

EN_DE = {"source_field": "en", "target_field": "de"}


@pytest.fixture
def folder(tmp_path):
    """A folder of files, each of which holds its own name."""

    def lay_out(*names: str) -> Path:
        for name in names:
            content = f"{name}\n".encode()
            if ".tsv" in name or ".jsonl" in name:
                content = (
                    content.replace(b"\n", b"\ttsv\n") if ".tsv" in name else b'{"a": "json", "b": "l"}\n'
                )
            (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return tmp_path

    return lay_out


def pairs(source, split):
    return [(pair.source, pair.target) for pair in source.pairs(split)]


def test_files_are_paired_by_what_they_begin_and_end_with(folder):
    path = folder(
        "train.en",
        "train.de",
        "val.en.gz",
        "val.de.gz",
        "test_2016_flickr.en",
        "test_2016_flickr.de",
        "README",
    )
    source = open_parallel(path, **EN_DE)
    assert source.name == path.name
    assert source.splits() == ("train", "validation", "test")
    assert list(source.pairs("train")) == [Pair("train.en", "train.de", "train.en:1")]
    assert pairs(source, "validation") == [("val.en.gz", "val.de.gz")]
    assert pairs(source, "test") == [("test_2016_flickr.en", "test_2016_flickr.de")]
    other = open_parallel(path, source_field="DE", target_field="EN")
    assert pairs(other, "train") == [("train.de", "train.en")]
    assert other.fingerprint != source.fingerprint


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "VALID"])
def test_validation_has_many_names(folder, name):
    source = open_parallel(
        folder("Train.en", "train.de-en.de", "Train.de", f"{name}.en", f"{name}.de"), **EN_DE
    )
    assert pairs(source, "validation") == [(f"{name}.en", f"{name}.de")]


@pytest.mark.parametrize("stem", ["train", "train.de-en", "train.lc.tok"])
def test_names_may_have_a_middle(folder, stem):
    source = open_parallel(folder(f"{stem}.en", f"{stem}.de"), **EN_DE)
    assert source.splits() == ("train",)
    assert pairs(source, "train") == [(f"{stem}.en", f"{stem}.de")]


def test_files_with_both_sides_need_no_languages(folder):
    path = folder("train.tsv", "dev.jsonl.gz", "test.en", "test.de", "notes.tsv", "training.tsv")
    source = open_parallel(path)
    assert source.splits() == ("train", "validation")
    assert pairs(source, "train") == [("train.tsv", "tsv")]
    assert pairs(source, "validation") == [("json", "l")]


def test_of_several_languages_two_are_chosen(folder):
    path = folder(*(f"train.{language}" for language in ("cs", "de", "en", "fr")), "val.cs", "val.fr")
    assert pairs(open_parallel(path, source_field="fr", target_field="cs"), "validation") == [
        ("val.fr", "val.cs")
    ]
    assert open_parallel(path, **EN_DE).splits() == ("train",)
    with pytest.raises(DataError, match=r"no validation pairs in en and fr: there is val\.cs, val\.fr"):
        open_parallel(path, source_field="en", target_field="fr")
    with pytest.raises(DataError, match="no train pairs in en and pl"):
        open_parallel(path, source_field="en", target_field="pl")


def test_no_language_comes_first_by_itself(folder):
    with pytest.raises(UsageError, match="de and en are there") as caught:
        open_parallel(folder("train.en", "train.de.gz"))
    assert caught.value.hint == "--data.source-field=de --data.target-field=en"


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ((), "no training pairs"),
        (("val.en", "val.de"), "no training pairs"),
        (("train", "train.gz"), "no training pairs"),
        (("train.en", "val.de"), "half a pair"),
        (("train.en", "train.de", "train.en.gz"), "one of them too many"),
        (("train.en", "train.de", "train.lc.en", "train.lc.de"), "several sets of train pairs"),
        (("train.tsv", "train.jsonl"), "several sets of train pairs"),
        (
            ("train.en", "train.de", "val.en", "val.de", "dev.en", "dev.de"),
            "several sets of validation pairs",
        ),
        (("train.en", "train.de", "test.en"), "no test pairs in en and de: there is test.en"),
    ],
)
def test_what_could_be_meant_in_two_ways_or_none_is_refused(folder, names, complaint):
    fields = {} if complaint == "half a pair" or "train.tsv" in names else EN_DE
    with pytest.raises(DataError, match=complaint) as caught:
        open_parallel(folder(*names), **fields)
    assert caught.value.hint


def test_of_several_test_sets_the_first_is_taken_and_the_others_named(folder, caplog):
    names = [f"test_201{year}.{language}" for year in (8, 6, 7) for language in ("en", "de")]
    path = folder("train.en", "train.de", "test_2015.fr", *names)
    assert pairs(open_parallel(path, **EN_DE), "test") == [("test_2016.en", "test_2016.de")]
    assert "left out: test_2017.en + test_2017.de, test_2018.en + test_2018.de" in caplog.text


def test_what_does_not_go_with_a_folder_is_refused(folder, tmp_path):
    path = folder("train.tsv", "val.tsv", "more.tsv")
    with pytest.raises(UsageError, match="a folder holds both sides"):
        open_parallel(path, path / "val.tsv")
    with pytest.raises(UsageError, match="validation pairs of its own"):
        open_parallel(path, validation_source=path / "more.tsv")
    (path / "val.tsv").unlink()
    assert pairs(open_parallel(path, validation_source=path / "more.tsv"), "validation") == [
        ("more.tsv", "tsv")
    ]


def test_a_fifo_in_a_folder_is_refused_before_it_blocks(folder):
    import os

    path = folder("train.en")
    os.mkfifo(path / "train.de")
    with pytest.raises(DataError, match="a FIFO"):
        list(open_parallel(path, **EN_DE).pairs("train"))
