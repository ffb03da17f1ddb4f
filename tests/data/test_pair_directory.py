"""Parallel text to pairs of ids and back: nothing lost, nothing damaged unnoticed, nothing on both sides of a split."""

import gzip
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primer.assets import sha256_of
from primer.corpus.parallel import open_parallel
from primer.data.pair_directory import PairDirectory
from primer.data.prepare_pairs import prepare_pairs
from primer.errors import DataError, UsageError
from primer.tokens import BPETokenizer
from primer.tokens.tokenizer import END_OF_TEXT

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
ZAHLEN = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """200 pairs of sentences, two files."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 10, (200, 6))
    for name, words in (("a.en", NUMBERS), ("a.de", ZAHLEN)):
        text = "".join(" ".join(words[n] for n in row[: 2 + row[0] % 4]) + "\n" for row in rows)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / "a.en", tmp_path / "a.de"


def decoded(found: PairDirectory, split: str) -> list[tuple[str, str]]:
    pairs, end = found.pairs(split), found.tokenizer.special_tokens[END_OF_TEXT]
    texts = []
    for number in range(len(pairs)):
        sides = [side[number].tolist() for side in (pairs.source, pairs.target)]
        assert all(ids[-1] == end and end not in ids[:-1] for ids in sides)
        texts.append(tuple(found.tokenizer.decode(ids[:-1]) for ids in sides))
    return texts  # type: ignore[return-value]


def test_what_goes_in_comes_out(files: tuple[Path, Path]) -> None:
    found = prepare_pairs(open_parallel(*files), vocab_size=300, validation_fraction=0.2)
    read = [file.read_text(encoding="utf-8").splitlines() for file in files]
    wanted = sorted(zip(*read, strict=True))
    assert sorted(decoded(found, "train") + decoded(found, "validation")) == wanted
    counts = found.counts
    assert counts["train"]["pairs"] + counts["validation"]["pairs"] == 200
    assert 15 <= counts["validation"]["pairs"] <= 70
    for split in ("train", "validation"):
        pairs = found.pairs(split)
        assert counts[split]["source_tokens"] == pairs.source.lengths.sum()
        assert counts[split]["target_tokens"] == pairs.target.lengths.sum()


def test_a_source_that_occurs_twice_is_on_one_side(files: tuple[Path, Path]) -> None:
    found = prepare_pairs(open_parallel(*files), vocab_size=300, validation_fraction=0.3)
    train, validation = ({source for source, _ in decoded(found, split)} for split in ("train", "validation"))
    assert train
    assert validation
    assert not train & validation
    assert len(train) + len(validation) < 200  # some do occur twice


def test_the_vocabulary_is_that_of_the_training_pairs_of_both_languages(files: tuple[Path, Path]) -> None:
    found = prepare_pairs(open_parallel(*files), vocab_size=280, validation_fraction=0.2)
    texts = [sentence for pair in decoded(found, "train") for sentence in pair]
    assert found.tokenizer.to_json() == BPETokenizer.train(texts, 280).to_json()


def test_a_small_text_has_a_smaller_vocabulary_than_was_asked_for(files: tuple[Path, Path]) -> None:
    found = prepare_pairs(open_parallel(*files), vocab_size=5000)
    assert 280 < found.tokenizer.vocab_size < 1000


def test_the_same_is_made_once_and_another_is_made_anew(files: tuple[Path, Path]) -> None:
    first = prepare_pairs(open_parallel(*files), vocab_size=300)
    stamp = (first.path / "manifest.json").stat().st_mtime_ns
    again = prepare_pairs(open_parallel(*files), vocab_size=300)
    assert (again.path, again.fingerprint) == (first.path, first.fingerprint)
    assert (first.path / "manifest.json").stat().st_mtime_ns == stamp
    others = [
        prepare_pairs(open_parallel(*files), vocab_size=301),
        prepare_pairs(open_parallel(*files), vocab_size=300, validation_fraction=0.2),
        prepare_pairs(open_parallel(*files, swap=True), vocab_size=300),
    ]
    assert len({each.path for each in (first, *others)}) == 4
    swapped = [(target, source) for source, target in decoded(others[2], "train")]
    assert set(swapped) <= set(decoded(first, "train") + decoded(first, "validation"))


def test_packed_files_give_the_same_ids(files: tuple[Path, Path]) -> None:
    plain = prepare_pairs(open_parallel(*files), vocab_size=300)
    packed = []
    for file in files:
        packed.append(file.with_name(file.name + ".gz"))
        packed[-1].write_bytes(gzip.compress(file.read_bytes()))
    found = prepare_pairs(open_parallel(*packed), vocab_size=300)
    for name in ("train.source.ids", "train.target.ends", "validation.source.ids"):
        assert sha256_of(found.path / name) == sha256_of(plain.path / name)


def test_what_is_left_out_is_told_each_time(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    lines = files[1].read_text(encoding="utf-8").splitlines()
    lines[16] = "   "
    files[1].write_text("\n".join(lines) + "\n", encoding="utf-8")
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "primer"):
            found = prepare_pairs(open_parallel(*files), vocab_size=300)
        assert "train: pairs left out: 1 empty on the target side (a.en:17" in caplog.text.replace(
            "a.de:17", "a.en:17"
        )
    assert sum(counts["pairs"] for counts in found.counts.values()) == 199


def test_files_of_different_length_name_both_counts(files: tuple[Path, Path]) -> None:
    lines = files[1].read_text(encoding="utf-8").splitlines()
    files[1].write_text("\n".join(lines[:-3]), encoding="utf-8")
    with pytest.raises(DataError, match=r"200.*197|197.*200"):
        prepare_pairs(open_parallel(*files), vocab_size=300)


def test_a_tokenizer_without_an_end_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="no token that ends a sentence"):
        prepare_pairs(open_parallel(*files), tokenizer="byte")


def test_a_tokenizer_that_exists_is_taken(files: tuple[Path, Path]) -> None:
    own = BPETokenizer.train(["eins zwei drei", "one two three"], 262)
    found = prepare_pairs(open_parallel(*files), tokenizer=own)
    assert found.tokenizer.fingerprint == own.fingerprint


def test_every_changed_byte_is_noticed(files: tuple[Path, Path], tmp_path: Path) -> None:
    found = prepare_pairs(open_parallel(*files), vocab_size=300)
    names = sorted(path.name for path in found.path.iterdir())
    rng = np.random.default_rng(0)
    for name in names:
        file = found.path / name
        good = file.read_bytes()
        for place in rng.integers(0, len(good), 8).tolist():
            bad = bytearray(good)
            bad[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(bytes(bad))
            with pytest.raises(DataError) as error:
                PairDirectory.open(found.path)
            assert name in str(error.value)
        for bad_length in (good[:-1], good + b"\0", b""):
            file.write_bytes(bad_length)
            with pytest.raises(DataError):
                PairDirectory.open(found.path)
        file.write_bytes(good)
    PairDirectory.open(found.path)
    (found.path / "train.source.ids").unlink()
    with pytest.raises(DataError, match="missing"):
        PairDirectory.open(found.path)
    made = prepare_pairs(open_parallel(*files), vocab_size=300)  # a damaged one in the cache is made again
    assert made.fingerprint == found.fingerprint


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            *[st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)] * 2
        ),
        min_size=2,
        max_size=30,
    )
)
def test_any_sentences_survive(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    kept = [(a.strip(), b.strip()) for a, b in rows if a.strip() and b.strip()]
    for name, column in (("x.a", 0), ("x.b", 1)):
        (tmp_path / name).write_bytes("".join(row[column] + "\n" for row in rows).encode())
    text = open_parallel(tmp_path / "x.a", tmp_path / "x.b")
    try:
        found = prepare_pairs(text, vocab_size=270, validation_fraction=0.5)
    except DataError as error:
        assert error.cause.startswith(("no train pairs", "this text has no pairs"))  # noqa: PT017
        return
    assert sorted(decoded(found, "train") + decoded(found, "validation")) == sorted(kept)
