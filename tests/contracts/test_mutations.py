"""No damage is silent: every flipped bit, hole and truncation is refused, and the file is named. And whatever bytes a
reader is given, it reads them or says in our words why not.
"""

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from primer import tokens
from primer.assets import seal
from primer.data.foreign import open_foreign
from primer.data.manifest import HEADER, Manifest
from primer.data.shards import ShardDirectory
from primer.data.writer import write_shards
from primer.errors import DataError, PrimerError
from primer.recipes.resolve import resolve
from primer.tokens import BPETokenizer, CharTokenizer
from primer.training import checkpoint
from primer.training.log import JsonLines

COUNTS = [pytest.param(100, 0), pytest.param(1000, 1, marks=pytest.mark.slow)]


def mutations(content: bytes, count: int, seed: int) -> list[tuple[str, bytes]]:
    """Flipped bits, holes of zeros, truncations, repetitions, two bytes swapped: what disks and networks do."""
    chance = random.Random(seed)
    found = []
    while len(found) < count:
        place = chance.randrange(len(content))
        kind = chance.choice(["bit", "bit", "hole", "end", "again", "swap"])
        bad = bytearray(content)
        if kind == "bit":
            bad[place] ^= 1 << chance.randrange(8)
        elif kind == "hole":
            bad[place : place + 512] = bytes(len(bad[place : place + 512]))
        elif kind == "end":
            del bad[place:]
        elif kind == "again":
            bad += bad[place:]
        else:
            bad[place], bad[place - 1] = bad[place - 1], bad[place]
        if not the_same(content, bytes(bad)):
            found.append((f"{kind} at {place}", bytes(bad)))
    return found


def the_same(content: bytes, other: bytes) -> bool:
    """Whether two contents say the same: JSON does when a space changes places."""
    with contextlib.suppress(ValueError):
        return bool(json.loads(content) == json.loads(other))
    return content == other


def refusal(read: Callable[[], object]) -> DataError | None:
    """How `read` refuses, if it does."""
    try:
        read()
    except DataError as error:
        return error
    return None


def none_is_silent(file: Path, count: int, seed: int, read: Callable[[], object]) -> None:
    """`read` refuses every mutation of a file and names it, and takes the file as it was."""
    good = file.read_bytes()
    for what, bad in mutations(good, count, seed):
        file.write_bytes(bad)
        error = refusal(read)
        assert error is not None, f"{file.name} was believed with a {what}"
        assert file.name in str(error.where), what
    file.write_bytes(good)
    read()


@pytest.mark.parametrize(("count", "seed"), COUNTS)
@pytest.mark.parametrize("name", [*checkpoint.FILES, "manifest.json"])
def test_a_checkpoint(name: str, count: int, seed: int, tmp_path: Path) -> None:
    path = checkpoint.save(
        tmp_path,
        5,
        model={"a.weight": torch.randn(16, 16), "b": torch.zeros(64)},
        optim={"a.weight.momentum": torch.randn(16, 16)},
        state={"step": 5, "generators": ["a" * 300], "stream": {"epoch": 0, "index": 12}},
    )
    none_is_silent(path / name, count, seed, lambda: checkpoint.load(path))


@pytest.mark.parametrize(("count", "seed"), COUNTS)
@pytest.mark.parametrize(
    "name", ["train_00001.bin", "validation_00000.bin", "tokenizer.json", "manifest.json"]
)
def test_a_shard_directory(name: str, count: int, seed: int, tmp_path: Path) -> None:
    ids = np.random.default_rng(seed).integers(300, size=900)
    tokenizer = CharTokenizer("".join(map(chr, range(0x100, 0x100 + 300))))
    splits = {"train": [ids], "validation": [ids[:50]]}
    path = write_shards(tmp_path / "s", splits, tokenizer, shard_tokens=400).path
    none_is_silent(path / name, count, seed, lambda: ShardDirectory.open(path))


@pytest.mark.parametrize(("count", "seed"), COUNTS)
@pytest.mark.parametrize("suffix", ["bin", "npy"])
def test_token_files_of_others(suffix: str, count: int, seed: int, tmp_path: Path) -> None:
    """They hold no checksum, so a changed id may be believed; but never for the text that a run remembers."""
    tokenizer = CharTokenizer("".join(map(chr, range(0x100, 0x100 + 300))))
    ids = np.random.default_rng(seed).integers(300, size=900).astype("<u2")
    for number, name in enumerate(("val_000000", "train_000001", "train_000002")):
        with (tmp_path / f"{name}.{suffix}").open("wb") as written:
            if suffix == "npy":
                np.save(written, ids[number::3])
            else:
                written.write(
                    np.array([20240520, 1, 300, *[0] * 253], "<i4").tobytes() + ids[number::3].tobytes()
                )
    good = open_foreign(tmp_path, tokenizer).fingerprint
    file = tmp_path / f"train_000002.{suffix}"
    content = file.read_bytes()
    for number, (what, bad) in enumerate(mutations(content, count, seed)):
        file.write_bytes(bad)
        os.utime(file, ns=(0, number))  # a clock may stand still for some milliseconds
        try:
            found = open_foreign(tmp_path, tokenizer).fingerprint
        except DataError as error:
            found = str(error.where)
        assert found != good, f"{file.name} was believed with a {what}"
        assert len(found) == 64 or found == str(file), what
    file.write_bytes(content)
    assert open_foreign(tmp_path, tokenizer).fingerprint == good


@pytest.mark.parametrize(("count", "seed"), COUNTS)
@pytest.mark.parametrize("kind", ["char", "bpe"])
def test_a_tokenizer(kind: str, count: int, seed: int, tmp_path: Path) -> None:
    """As its readers read it, byte for byte; bytes that are no text are the readers' affair."""
    file = tmp_path / "tokenizer.json"
    made = CharTokenizer("\n !abcdéß😀") if kind == "char" else BPETokenizer.train(["low lower lowest"], 260)
    file.write_text(made.to_json(), encoding="utf-8")
    none_is_silent(file, count, seed, lambda: tokens.from_json(file.read_text("latin-1"), where=str(file)))


LONG = settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))
"""Minutes of looking for bytes that surprise a reader."""

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just(10**400)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner)
)


def in_our_words(read: Callable[[], Any]) -> None:
    """Whatever happens is one of our errors, or nothing."""
    with contextlib.suppress(PrimerError):
        read()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ids = np.arange(40) % 3
    return write_shards(tmp_path_factory.mktemp("s") / "s", {"train": [ids]}, CharTokenizer("abc")).path


fields = st.tuples(
    st.binary(max_size=8), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=12),
    st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.binary(max_size=32),
)  # fmt: skip


@pytest.mark.slow
@LONG
@given(
    head=st.one_of(st.binary(max_size=200), fields.map(lambda each: HEADER.pack(*each))), verify=st.booleans()
)
def test_fuzz_shard_headers(shards: Path, head: bytes, verify: bool) -> None:
    file = shards / "train_00000.bin"
    good = file.read_bytes()
    bad = head + good[len(head) :]
    file.write_bytes(bad)
    try:
        if bad == good:
            ShardDirectory.open(shards, verify)
        else:
            with pytest.raises(DataError) as caught:
                ShardDirectory.open(shards, verify)
            assert caught.value.where == str(file)
    finally:
        file.write_bytes(good)


def changed(good: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The fields of a file with some of them something else."""
    others = st.dictionaries(
        st.one_of(st.sampled_from(sorted(good)), st.text(max_size=4)), values, max_size=3
    )
    return others.map(lambda other: {**good, **other})


MANIFEST = {
    "kind": "primer shards", "version": 1, "key": "k", "source": {"name": "x"}, "tokenizer": "0" * 64,
    "counts": {s: {"tokens": 0, "characters": 0, "bytes": 0, "skipped": 0} for s in ("train", "validation")},
    "shards": {"train": [], "validation": []},
}  # fmt: skip


@pytest.mark.slow
@LONG
@given(text=st.one_of(changed(MANIFEST).map(seal), st.binary(), values.map(json.dumps)))
def test_fuzz_manifests_of_shards(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "manifest.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    in_our_words(lambda: Manifest.read(file))


@pytest.mark.slow
@LONG
@given(text=st.one_of(st.binary(), values.map(json.dumps)))
def test_fuzz_manifests_of_checkpoints(tmp_path_factory: pytest.TempPathFactory, text: str | bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    in_our_words(lambda: checkpoint.read_manifest(folder))


BPE: dict[str, Any] = {
    "kind": "bpe",
    "version": 1,
    "pattern": "gpt2",
    "bytes": bytes(range(256)).hex(),
    "merges": [[97, 98], [256, 99]],
    "special_tokens": {"<|endoftext|>": 258},
}


@pytest.mark.slow
@LONG
@given(
    text=st.one_of(
        st.text(),
        changed({"kind": "char", "version": 1, "characters": "ab"}).map(seal),
        changed(BPE).map(seal),
    )
)
@example("[" * 100_000)
@example(seal({"kind": "char", "version": True, "characters": "ab"}))
def test_fuzz_tokenizers(text: str) -> None:
    in_our_words(lambda: tokens.from_json(text))


words = st.sampled_from(
    ["[", "]", "[[", "]]", "{", "}", "=", ".", ",", '"', "'", '"""', "#", "\n", "\n", " ", "train", "model", "steps",
     "data.source", "base", "lr", "1", "-1", "1e9", "inf", "nan", "true", "0x1f", "1979-05-27", "\\u0000", "\\ud800",
     "lecture", "\ufeff", "\x00", "é", "n_heads", "ngram", "orders"]
)  # fmt: skip


@pytest.mark.slow
@LONG
@given(
    content=st.one_of(st.binary(), st.lists(words, max_size=30).map(lambda parts: "".join(parts).encode()))
)
def test_fuzz_recipes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.toml"
    file.write_bytes(content)
    in_our_words(lambda: resolve(file))


@pytest.mark.slow
@LONG
@given(
    content=st.one_of(
        st.binary(), st.lists(values.map(json.dumps)).map(lambda lines: "\n".join(lines).encode())
    ),
)
def test_fuzz_rows_of_metrics(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Every row that is read is an object, and whole rows around what is broken survive."""
    log = JsonLines(tmp_path_factory.getbasetemp() / "metrics.jsonl")
    log.file.write_bytes(b'{"step": 1}\n' + content + b'\n{"step": 2}\n')
    rows = log.rows()
    assert rows[0] == {"step": 1}
    assert rows[-1] == {"step": 2}
    assert all(isinstance(row, dict) for row in rows)


rows_of_text = st.dictionaries(
    st.sampled_from(["text", "note"]), st.text(st.characters(exclude_categories=["Cs"]))
)


@settings(max_examples=60)
@given(st.lists(rows_of_text, max_size=5))
@example([{"text": "\x85\u2028\u2029\x0b\x0c\x1c\r\n"}])
def test_rows_come_back_whatever_they_hold(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    log = JsonLines(folder / "samples.jsonl")
    numbered = [{"step": step, **row} for step, row in enumerate(rows)]
    for row in numbered:
        log.append(row)
    assert log.rows() == numbered
    log.trim(1)
    assert log.rows() == numbered[:2]
    shutil.rmtree(folder)
