"""Documents become tokens: the same ones whatever the blocks, the threads, and however often the work was killed."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer.corpus import Document
from primer.data import documents
from primer.data import prepare as preparing
from primer.data.documents import Stretch, in_order, jobs, stretches
from primer.data.journal import JOURNAL
from primer.data.prepare import prepare
from primer.data.shards import ShardDirectory
from primer.data.writer import ShardWriter
from primer.errors import DataError, SurroundingsError, UsageError
from primer.tokens import BPETokenizer, blocks

TEXTS = [
    "The first document, which is short.",
    "",
    "It spells <|endoftext|> and means nothing by it.\n\n" * 3,
    "".join(f"{n} times {n} is {n * n}, isn't it?  " for n in range(200)),
    "Größe, naïveté, 漢字かな交じり文, 🦜" * 20,
]


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(TEXTS, vocab_size=400, pattern="gpt2")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs and blocks of a few characters, and a note after every job."""
    monkeypatch.setattr(documents, "JOB", 64)
    monkeypatch.setattr(blocks, "BLOCK", 48)
    monkeypatch.setattr(blocks, "WINDOW", 24)
    monkeypatch.setattr(preparing, "NOTE_SECONDS", 0.0)


def by_hand(tokenizer: BPETokenizer, texts: list[str], train: int) -> tuple[list[int], list[int]]:
    """A document at a time, whole; the one in which the split falls is cut there."""
    begin = tokenizer.special_tokens["<|endoftext|>"]
    sides: tuple[list[int], list[int]] = ([], [])
    position = 0
    for text in texts:
        cut = min(max(train - position, 0), len(text))
        for side, part in zip(sides, (text[:cut], text[cut:]), strict=True):
            if part:
                side += [begin, *tokenizer.encode(part, special="text").tolist()]
        position += len(text)
    return sides


def ids(shards: ShardDirectory) -> tuple[list[int], list[int]]:
    return shards.tokens("train")[:].tolist(), shards.tokens("validation")[:].tolist()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sizes", ["small", None])
def test_every_document_begins_with_the_end_of_text_token(
    threads: int, sizes: str | None, tokenizer: BPETokenizer, source: Path, tmp_path: Path, request
) -> None:
    if sizes:
        request.getfixturevalue(sizes)
    shards = prepare(
        source, tokenizer=tokenizer, out=tmp_path / "out", validation_fraction=0.3, threads=threads
    )
    characters = sum(map(len, TEXTS))
    expected = by_hand(tokenizer, TEXTS, int(0.7 * characters))
    assert ids(shards) == expected
    counts = shards.counts["train"], shards.counts["validation"]
    assert [each["tokens"] for each in counts] == [len(side) for side in expected]
    assert sum(each["characters"] for each in counts) == characters
    assert sum(each["bytes"] for each in counts) == sum(len(text.encode()) for text in TEXTS)
    assert not list(shards.path.glob(JOURNAL))
    begin = tokenizer.special_tokens["<|endoftext|>"]
    assert (
        expected[0].count(begin) + expected[1].count(begin) == 4 + 1
    )  # four with text, one of them in two parts


@given(
    texts=st.lists(st.text(alphabet="ab 1.\né", max_size=40), max_size=6),
    cut=st.integers(0, 100),
    data=st.data(),
)
def test_stretches_are_the_documents_again(texts: list[str], cut: int, data: st.DataObject) -> None:
    found: list[Document] = []
    for number, text in enumerate(texts):
        places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=3)))
        edges = [0, *places, len(text)]
        for part, (start, end) in enumerate(pairwise(edges)):
            found.append(Document(text[start:end], str(number), part))
    whole: dict[tuple[str, str], str] = {}
    for stretch in stretches(found, cut):
        key = (stretch.id, stretch.split)
        assert stretch.begins == (key not in whole)
        whole[key] = whole.get(key, "") + stretch.text
    position = 0
    for number, text in enumerate(texts):
        inside = min(max(cut - position, 0), len(text))
        assert whole.get((str(number), "train"), "") == text[:inside]
        assert whole.get((str(number), "validation"), "") == text[inside:]
        position += len(text)


def test_a_job_is_of_one_split_and_a_megabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "JOB", 10)
    given = [Stretch("x" * 4, str(n), "train" if n < 7 else "validation", True) for n in range(9)]
    made = list(jobs(given))
    assert [len(job) for job in made] == [3, 3, 1, 2]
    assert [stretch for job in made for stretch in job] == given


def test_only_a_few_jobs_are_under_way_at_once() -> None:
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(1, 101):
            taken.append(number)
            yield number

    results = in_order(lambda n: n * n, numbers(), threads=2)
    assert next(results) == 1
    assert len(taken) <= 6
    assert list(results) == [n * n for n in range(2, 101)]


def test_what_goes_wrong_in_a_thread_names_the_document(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    file = tmp_path / "half.jsonl"
    file.write_text('{"text": "fine"}\n{"text": "half a pair: \\ud800 and on"}\n')
    with pytest.raises(DataError, match=r"D800|surrogate") as caught:
        prepare(file, tokenizer=tokenizer, out=tmp_path / "out")
    assert "half.jsonl" in str(caught.value.where)
    assert not list(tmp_path.glob("out*"))


KILLED = """
import os, signal, sys
from pathlib import Path
from primer.data import documents, prepare, writer
from primer.tokens import blocks, from_json

source, out, vocabulary, after = sys.argv[1:]
documents.JOB, blocks.BLOCK, blocks.WINDOW, prepare.NOTE_SECONDS = 64, 48, 24, 0.0
write, calls = writer.ShardWriter.write, 0

def until(*values, **more):
    global calls
    calls += 1
    if calls == int(after):
        os.kill(os.getpid(), signal.SIGKILL)
    write(*values, **more)

writer.ShardWriter.write = until
tokenizer = from_json(Path(vocabulary).read_text())
prepare.prepare(source, tokenizer=tokenizer, out=Path(out), validation_fraction=0.3, threads=2)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_preparation_goes_on_where_it_was(
    tokenizer: BPETokenizer, source: Path, tmp_path: Path, small: None, caplog: pytest.LogCaptureFixture
) -> None:
    whole = prepare(source, tokenizer=tokenizer, out=tmp_path / "whole", validation_fraction=0.3)
    (tmp_path / "vocabulary.json").write_text(tokenizer.to_json())
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    out = tmp_path / "killed"
    for after in ("5", "9", "30"):  # the second one goes on after the first, and so on
        words = [sys.executable, str(script), str(source), str(out), str(tmp_path / "vocabulary.json"), after]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, env={**os.environ})
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not out.exists()
        assert len(list(tmp_path.glob("killed.tmp-*"))) == 1
    with caplog.at_level(logging.WARNING, logger="primer"):
        shards = prepare(source, tokenizer=tokenizer, out=out, validation_fraction=0.3)
    assert "going on after job 41" in caplog.text  # 4 + 8 + 29: nothing that was noted is done again
    assert ids(shards) == ids(whole)
    assert (shards.fingerprint, shards.counts) == (whole.fingerprint, whole.counts)
    assert not list(tmp_path.glob("killed.tmp-*"))


def interrupted(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = ShardWriter.write, 0

    def until(self: ShardWriter, *values: object, **more: object) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            raise KeyboardInterrupt
        write(self, *values, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ShardWriter, "write", until)


def test_ctrl_c_keeps_what_was_done(
    tokenizer: BPETokenizer, source: Path, tmp_path: Path, small: None, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupted(12, patch)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tokenizer=tokenizer, out=tmp_path / "out")
    assert len(list(tmp_path.glob("out.tmp-*"))) == 1
    with caplog.at_level(logging.WARNING, logger="primer"):
        shards = prepare(source, tokenizer=tokenizer, out=tmp_path / "out")
    assert "going on after job 11" in caplog.text
    assert ids(shards) == by_hand(tokenizer, TEXTS, int(0.9 * sum(map(len, TEXTS))))


@pytest.mark.parametrize("damage", ["a bit", "cut off", "the journal", "another text"])
def test_what_is_not_as_it_was_noted_is_made_again(
    damage: str,
    tokenizer: BPETokenizer,
    source: Path,
    tmp_path: Path,
    small: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        interrupted(12, patch)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tokenizer=tokenizer, out=tmp_path / "out")
    (partial,) = tmp_path.glob("out.tmp-*")
    shard = partial / "train_00000.bin"
    texts = TEXTS
    if damage == "a bit":
        content = bytearray(shard.read_bytes())
        content[200] ^= 4
        shard.write_bytes(content)
    elif damage == "cut off":
        os.truncate(shard, 150)
    elif damage == "the journal":
        journal = partial / JOURNAL
        journal.write_text(journal.read_text().replace('"jobs":11', '"jobs":12'))
    else:
        texts = ["something else", *TEXTS]
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with caplog.at_level(logging.WARNING, logger="primer"):
        shards = prepare(source, tokenizer=tokenizer, out=tmp_path / "out")
    assert "going on" not in caplog.text
    assert ids(shards) == by_hand(tokenizer, texts, int(0.9 * sum(map(len, texts))))
    assert list(tmp_path.glob("out.tmp-*")) == ([partial] if damage == "another text" else [])


def test_shards_that_are_full_are_taken_up_too(
    tokenizer: BPETokenizer, source: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("primer.data.writer.SHARD_TOKENS", 100)
    initial = ShardWriter.__init__

    def little(self: ShardWriter, *values: object, **more: object) -> None:
        initial(self, *values, shard_tokens=100, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ShardWriter, "__init__", little)
    whole = prepare(source, tokenizer=tokenizer, out=tmp_path / "whole", validation_fraction=0.3)
    assert len(list(whole.path.glob("*.bin"))) > 10
    with pytest.MonkeyPatch.context() as patch:
        interrupted(60, patch)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tokenizer=tokenizer, out=tmp_path / "out", validation_fraction=0.3)
    shards = prepare(source, tokenizer=tokenizer, out=tmp_path / "out", validation_fraction=0.3)
    assert shards.fingerprint == whole.fingerprint
    assert np.array_equal(shards.tokens("train")[:], whole.tokens("train")[:])


def limited_by_hand(
    tokenizer: BPETokenizer, texts: list[str], goal: int, limit: int
) -> tuple[list[int], list[int]]:
    """The beginning of everything; the document in which validation is full begins anew in training."""
    begin = tokenizer.special_tokens["<|endoftext|>"]
    everything = by_hand(tokenizer, texts, sum(map(len, texts)))[0]
    validation, rest = everything[:goal], everything[goal:]
    if rest and rest[0] != begin:
        rest = [begin, *rest]
    return validation, rest[: limit - len(validation)]


@pytest.mark.parametrize("sizes", ["small", None])
@pytest.mark.parametrize("limit", [100, 700, 1500])
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.9])
def test_a_limit_is_kept_whatever_the_jobs(
    sizes: str | None,
    limit: int,
    fraction: float,
    tokenizer: BPETokenizer,
    source: Path,
    tmp_path: Path,
    request,
) -> None:
    """Also one that is less than a job, and one that falls inside a document."""
    if sizes:
        request.getfixturevalue(sizes)
    goal = max(1, round(fraction * limit))
    expected = limited_by_hand(tokenizer, TEXTS, goal, limit)
    options = {"tokenizer": tokenizer, "limit_tokens": limit, "validation_fraction": fraction}
    if min(map(len, expected)) < 2:
        with pytest.raises(DataError, match=r"holds [01] tokens"):
            prepare(source, out=tmp_path / "out", **options)
        return
    shards = prepare(source, out=tmp_path / "out", **options)
    assert ids(shards) == tuple(reversed(expected))
    for split, side in zip(("train", "validation"), reversed(expected), strict=True):
        content = b"".join(tokenizer.token_bytes(each) for each in side)
        assert shards.counts[split]["bytes"] == len(content)
        assert shards.counts[split]["characters"] == sum((byte & 0xC0) != 0x80 for byte in content)


def test_a_limit_far_beyond_the_text_is_refused(
    tokenizer: BPETokenizer, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Validation, its part of the limit, would have been most of the text."""
    held = sum(map(len, by_hand(tokenizer, TEXTS, 10**6)))
    with pytest.raises(DataError, match=f"holds {held:,} tokens, far fewer than limit_tokens=1,000,000"):
        prepare(source, tokenizer=tokenizer, out=tmp_path / "far", limit_tokens=10**6)
    assert not list(tmp_path.glob("far*"))
    near = prepare(source, tokenizer=tokenizer, out=tmp_path / "near", limit_tokens=held + 50)
    assert sum(map(len, ids(near))) >= held
    assert "the text ended after" in caplog.text


@pytest.mark.parametrize("name", ["threads", "limit_tokens"])
def test_nothing_negative_is_asked_for(
    name: str, tokenizer: BPETokenizer, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"{name} must not be negative, got -1"):
        prepare(source, tokenizer=tokenizer, out=tmp_path / "out", **{name: -1})


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_work_that_ends_while_it_is_being_finished_is_kept(
    failure: BaseException, tokenizer: BPETokenizer, source: Path, tmp_path: Path, small: None,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The last moment is one as well: everything was written, and only the name was missing."""
    whole = prepare(source, tokenizer=tokenizer, out=tmp_path / "whole", validation_fraction=0.3)
    monkeypatch.setattr("primer.data.prepare.NOTE_SECONDS", 0.0)
    out = tmp_path / "broken"

    def fail(path: Path) -> None:
        raise failure

    with monkeypatch.context() as broken:
        broken.setattr("primer.data.writer.sync", fail)
        with pytest.raises((KeyboardInterrupt, SurroundingsError)):
            prepare(source, tokenizer=tokenizer, out=out, validation_fraction=0.3)
    assert not out.exists()
    shards = prepare(source, tokenizer=tokenizer, out=out, validation_fraction=0.3)
    assert "going on after job" in caplog.text
    assert (shards.fingerprint, shards.counts) == (whole.fingerprint, whole.counts)
    assert {file.name for file in out.iterdir()} == {file.name for file in (tmp_path / "whole").iterdir()}


def test_what_another_machine_left_is_named_with_what_to_do(
    tokenizer: BPETokenizer, source: Path, tmp_path: Path, small: None,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A container that is made anew has another name. From here nobody can tell whether the other one is at work."""
    monkeypatch.setattr("primer.data.prepare.NOTE_SECONDS", 0.0)
    out = tmp_path / "broken"
    with monkeypatch.context() as broken:
        broken.setattr("primer.data.writer.sync", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tokenizer=tokenizer, out=out, validation_fraction=0.3)
    (left,) = tmp_path.glob("broken.tmp-*")
    theirs = left.rename(tmp_path / "broken.tmp-elsewhere-77-abcdef01")
    whole = prepare(source, tokenizer=tokenizer, out=out, validation_fraction=0.3)
    assert "going on after job" not in caplog.text
    said = next(
        record.getMessage() for record in caplog.records if "another machine's" in record.getMessage()
    )
    assert said.startswith(str(theirs))
    assert theirs.is_dir(), "it may be at work"
    caplog.clear()
    shutil.rmtree(out)
    theirs.rename(tmp_path / re.search(r"rename it to (\S+),", said)[1])  # type: ignore[index]
    again = prepare(source, tokenizer=tokenizer, out=out, validation_fraction=0.3)
    assert "going on after job" in caplog.text
    assert (again.fingerprint, again.counts) == (whole.fingerprint, whole.counts)


def test_a_limit_holds_no_long_document_in_memory(
    tokenizer: BPETokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One document of any length is encoded a job at a time, and only as far as the limit goes."""
    (tmp_path / "long.txt").write_text("one long document, and nothing else. " * 9000)
    encoded: list[int] = []
    ordinary = documents.encode

    def watched(job: list[Stretch], tokenizer: BPETokenizer) -> documents.Encoded:
        encoded.append(sum(len(stretch.text) for stretch in job))
        return ordinary(job, tokenizer)

    monkeypatch.setattr(documents, "JOB", 1000)
    monkeypatch.setattr(blocks, "BLOCK", 500)
    monkeypatch.setattr(preparing, "encode", watched)
    shards = prepare(
        tmp_path / "long.txt", tokenizer=tokenizer, out=tmp_path / "out", limit_tokens=2000, threads=1
    )
    assert [shards.counts[split]["tokens"] for split in ("validation", "train")] == [200, 1800]
    assert max(encoded) <= 1500
    assert sum(encoded) < 20_000


def test_a_limited_preparation_goes_on_where_it_was(
    tokenizer: BPETokenizer, source: Path, tmp_path: Path, small: None, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"tokenizer": tokenizer, "limit_tokens": 1200, "validation_fraction": 0.3}
    whole = prepare(source, out=tmp_path / "whole", **options)
    for after in (4, 7, 9):
        with pytest.MonkeyPatch.context() as patch:
            interrupted(after, patch)
            with pytest.raises(KeyboardInterrupt):
                prepare(source, out=tmp_path / "out", **options)
    shards = prepare(source, out=tmp_path / "out", **options)
    assert "going on after job" in caplog.text
    assert (shards.fingerprint, shards.counts) == (whole.fingerprint, whole.counts)


def left_unfinished(source: Path, tokenizer: BPETokenizer, out: Path) -> Path:
    """What a preparation leaves that is stopped at its twelfth job."""
    with pytest.MonkeyPatch.context() as patch:
        interrupted(12, patch)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tokenizer=tokenizer, out=out)
    (unfinished,) = out.parent.glob(f"{out.name}.tmp-*")
    return unfinished


def test_unfinished_work_of_another_kind_is_left_alone(
    tokenizer: BPETokenizer, source: Path, tmp_path: Path, small: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong flag must not cost the hours that went before."""
    unfinished = left_unfinished(source, tokenizer, tmp_path / "out")
    before = {file.name: file.read_bytes() for file in unfinished.iterdir()}
    shards = prepare(source, tokenizer="byte", out=tmp_path / "out")
    assert f"{unfinished} is unfinished" in caplog.text
    assert {file.name: file.read_bytes() for file in unfinished.iterdir()} == before
    shards.path.rename(tmp_path / "bytes")
    prepare(source, tokenizer=tokenizer, out=tmp_path / "out")
    assert "going on after job 11" in caplog.text
    assert not unfinished.exists()


def test_a_process_with_the_number_of_the_killed_one_goes_on(
    tokenizer: BPETokenizer, source: Path, tmp_path: Path, small: None, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a container, where the first process has the number 1 whenever it starts."""
    unfinished = left_unfinished(source, tokenizer, tmp_path / "out")
    machine, _, token = unfinished.name.removeprefix("out.tmp-").split("-")
    unfinished.rename(tmp_path / f"out.tmp-{machine}-{os.getpid()}-{token}")
    prepare(source, tokenizer=tokenizer, out=tmp_path / "out")
    assert "going on after job 11" in caplog.text
    assert not list(tmp_path.glob("out.tmp-*"))


def test_work_that_was_divided_otherwise_is_not_taken_up(
    tokenizer: BPETokenizer, source: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another version: eleven of its jobs are not eleven of ours."""
    whole = prepare(source, tokenizer=tokenizer, out=tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        interrupted(12, patch)
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tokenizer=tokenizer, out=tmp_path / "out")
    monkeypatch.setattr(documents, "JOB", 200)
    shards = prepare(source, tokenizer=tokenizer, out=tmp_path / "out")
    assert (shards.fingerprint, shards.counts) == (whole.fingerprint, whole.counts)


def test_what_was_lost_on_the_way_is_noticed(
    tokenizer: BPETokenizer, source: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The characters of the second pass are those of the first."""
    ordinary = preparing.jobs
    monkeypatch.setattr(preparing, "jobs", lambda found: list(ordinary(found))[:-3])
    with pytest.raises(DataError, match="changed while it was read"):
        prepare(source, tokenizer=tokenizer, out=tmp_path / "out", validation_fraction=0.9)
    assert not list(tmp_path.glob("out*"))
