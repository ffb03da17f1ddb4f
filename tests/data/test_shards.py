import gc
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primer.assets import seal
from primer.data.manifest import HEADER, Manifest, Shard
from primer.data.shards import ShardDirectory
from primer.data.writer import ShardWriter, write_shards
from primer.errors import DataError, SurroundingsError, UsageError
from primer.tokens import ByteTokenizer, CharTokenizer

TOKENIZER = CharTokenizer("abcdefgh")
TRAIN = np.arange(50) % 8
LETTERS = "".join(chr(p) for p in range(0x20000) if not 0xD800 <= p < 0xE000)
VALIDATION = np.arange(7)


@pytest.fixture
def shards(tmp_path):
    """Three shards of training and one of validation."""
    return write_shards(
        tmp_path / "s", {"train": [TRAIN], "validation": [VALIDATION]}, TOKENIZER, shard_tokens=20
    ).path


def refused(path: Path, match: str | None, where: Path | None = None, verify: bool = True) -> None:
    with pytest.raises(DataError, match=match) as caught:
        ShardDirectory.open(path, verify=verify)
    if where is not None:
        assert caught.value.where == str(where)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_written_is_read_whatever_the_cuts(tmp_path_factory, data):
    size = data.draw(st.sampled_from([3, 256, 257, 65537]))
    tokenizer = CharTokenizer(LETTERS[:size])
    ids = data.draw(st.lists(st.integers(0, size - 1), max_size=60))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=5)))
    pieces = [np.array(ids[a:b], dtype=np.int64) for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
    folder = tmp_path_factory.mktemp("s") / "shards"
    shards = write_shards(folder, {"train": pieces}, tokenizer, shard_tokens=data.draw(st.integers(1, 70)))
    train = shards.tokens("train")
    assert train.dtype == tokenizer.dtype
    assert (len(train), len(shards.tokens("validation"))) == (len(ids), 0)
    text = "".join(tokenizer.characters[i] for i in ids)
    assert shards.counts["train"] == {
        "tokens": len(ids), "characters": len(ids), "bytes": len(text.encode()), "skipped": 0,
    }  # fmt: skip
    for _ in range(5):
        start, stop = data.draw(st.integers(-70, 70)), data.draw(st.integers(-70, 70))
        assert train[start:stop].tolist() == ids[start:stop]
    shutil.rmtree(folder)


def test_the_fingerprint_is_that_of_the_ids_and_the_vocabulary(tmp_path):
    def made(name, ids, tokenizer=TOKENIZER, **options):
        return write_shards(tmp_path / name, {"train": [ids]}, tokenizer, **options).fingerprint

    first = made("a", TRAIN)
    assert made("b", TRAIN, source={"address": "/elsewhere"}, key="other") == first
    assert made("c", TRAIN[::-1]) != first
    assert made("d", TRAIN, CharTokenizer("hgfedcba")) != first


def test_a_slice_within_a_shard_is_no_copy(shards):
    train = ShardDirectory.open(shards).tokens("train")
    assert np.shares_memory(train[0:20], train[5:10])
    with pytest.raises(ValueError, match="read-only"):
        train[0:5][0] = 1


def test_only_steps_of_one_are_read(shards):
    with pytest.raises(IndexError):
        ShardDirectory.open(shards).tokens("train")[::2]


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def flip_a_bit(shards: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files_of(shards)))
    good = path.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(good) - 1))
    broken = bytearray(good)
    broken[bit // 8] ^= 1 << bit % 8
    path.write_bytes(broken)
    try:
        refused(shards, None, where=path)
    finally:
        path.write_bytes(good)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_flipped_bit_is_refused_and_its_file_named(shards, data):
    flip_a_bit(shards, data)


@pytest.mark.slow
@settings(max_examples=1000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_thousand_flipped_bits_are_refused(shards, data):
    flip_a_bit(shards, data)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_truncation_hole_and_extension_is_refused_and_its_file_named(shards, data):
    path = data.draw(st.sampled_from(files_of(shards)))
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    hole = good[:place] + bytes(len(good[place : place + 9])) + good[place + 9 :]
    broken = data.draw(st.sampled_from([good[:place], hole, good + b"\0", good + good]))
    path.write_bytes(broken)
    try:
        if broken == good:  # a hole where there was nothing
            ShardDirectory.open(shards)
        else:
            refused(shards, None, where=path)
    finally:
        path.write_bytes(good)


def test_every_byte_of_a_header_counts_even_without_verifying(shards):
    path = shards / "train_00001.bin"
    good = path.read_bytes()
    for place in range(HEADER.size):
        broken = bytearray(good)
        broken[place] ^= 1 << place % 8
        path.write_bytes(broken)
        refused(shards, None, where=path, verify=False)


def test_an_empty_shard(shards):
    (shards / "train_00000.bin").write_bytes(b"")
    refused(shards, "cut off: its 0 bytes", where=shards / "train_00000.bin")


def test_odd_bytes(tmp_path):
    tokenizer = CharTokenizer("".join(map(chr, range(1, 400))))
    path = write_shards(tmp_path / "wide", {"train": [TRAIN]}, tokenizer).path / "train_00000.bin"
    good = path.read_bytes()
    for odd in (good[:-1], good + b"x"):
        path.write_bytes(odd)
        complaint = f"holds {len(odd)} bytes where its count asks for {HEADER.size + 100}"
        refused(path.parent, complaint, where=path, verify=False)


def rewrite_header(path: Path, **changes: object) -> None:
    names = ("magic", "version", "width", "split", "number", "vocab_size", "count", "vocabulary")
    content = path.read_bytes()
    fields = dict(zip(names, HEADER.unpack(content[: HEADER.size]), strict=True)) | changes
    path.write_bytes(HEADER.pack(*fields.values()) + content[HEADER.size :])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"magic": b"\x93NUMPY\x01\0"}, "is no shard"),
        ({"version": 2}, "its version is 2, not 1"),
        ({"width": 2}, "its id width is 2, not 1"),
        ({"split": b"validation"}, "its split is validation, not train"),
        ({"number": 7}, "its number is 7, not 1"),
        ({"vocab_size": 9}, "its vocabulary size is 9, not 8"),
        ({"count": 2**63}, "its count is 9223372036854775808, not 20"),
        ({"vocabulary": bytes(32)}, "another tokenizer's"),
    ],
)
def test_a_wrong_header_is_named_by_its_field(shards, change, complaint):
    rewrite_header(shards / "train_00001.bin", **change)
    refused(shards, complaint, where=shards / "train_00001.bin", verify=False)


def test_a_count_beyond_the_file_is_refused_before_it_is_mapped(shards):
    manifest = Manifest.read(shards / "manifest.json")
    manifest.shards["train"][1] = Shard(10**12, manifest.shards["train"][1].sha256)
    manifest.counts["train"]["tokens"] += 10**12 - 20
    (shards / "manifest.json").write_text(manifest.to_json())
    rewrite_header(shards / "train_00001.bin", count=10**12)
    refused(shards, "its count asks for 1000000000128", where=shards / "train_00001.bin", verify=False)


def test_an_id_beyond_the_vocabulary_is_refused_though_every_checksum_fits(shards):
    import hashlib

    path = shards / "train_00001.bin"
    ids = bytes([8] * 20)
    path.write_bytes(path.read_bytes()[: HEADER.size] + ids)
    manifest = Manifest.read(shards / "manifest.json")
    manifest.shards["train"][1] = Shard(20, hashlib.sha256(ids).hexdigest())
    (shards / "manifest.json").write_text(manifest.to_json())
    refused(shards, "holds id 8, outside the vocabulary of 8", where=path)


def test_an_id_beyond_the_vocabulary_is_never_written(tmp_path):
    for wrong in (8, 2**16 + 1, -1):
        with pytest.raises(DataError, match="outside the vocabulary of 8"):
            write_shards(tmp_path / "s", {"train": [np.array([0, wrong])]}, TOKENIZER)
        assert list(tmp_path.iterdir()) == []


def test_a_missing_middle_shard(shards):
    (shards / "train_00001.bin").unlink()
    refused(shards, "no such file", where=shards / "train_00001.bin")


def test_a_duplicate(shards):
    shutil.copy(shards / "train_00000.bin", shards / "train_00001.bin")
    refused(shards, "its number is 0, not 1", where=shards / "train_00001.bin")


def test_a_shard_too_many(shards):
    shutil.copy(shards / "train_00000.bin", shards / "train_00003.bin")
    refused(shards, "the manifest knows no such shard", where=shards / "train_00003.bin")


def test_a_shard_that_changed_after_the_manifest(shards):
    path = shards / "validation_00000.bin"
    content = bytearray(path.read_bytes())
    content[-1] = 0
    path.write_bytes(content)
    refused(shards, "changed after the manifest was written", where=path)
    ShardDirectory.open(shards, verify=False)


def test_a_tokenizer_that_was_exchanged(shards):
    (shards / "tokenizer.json").write_text(ByteTokenizer().to_json())
    refused(shards, "changed after the manifest", where=shards / "tokenizer.json")


def test_no_manifest(shards, tmp_path):
    (shards / "manifest.json").unlink()
    refused(shards, "this is no shard directory", where=shards)
    refused(tmp_path / "absent", "this is no shard directory")


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2, "kind": "primer shards"},
        {"version": 1, "kind": "char"},
        {"version": 1, "kind": "primer shards"},
        {
            "version": 1,
            "kind": "primer shards",
            "key": "",
            "source": [],
            "tokenizer": "",
            "counts": 3,
            "shards": {},
        },
    ],
)
def test_a_manifest_that_is_sealed_and_still_none(shards, fields):
    (shards / "manifest.json").write_text(seal(fields))
    refused(shards, "cannot be read here|not laid out", where=shards / "manifest.json")


def test_counts_that_do_not_add_up(shards):
    manifest = Manifest.read(shards / "manifest.json")
    for held in ([Shard(-1, ""), Shard(51, "")], [Shard(49, "")]):
        wrong = replace(manifest, shards={**manifest.shards, "train": held})
        (shards / "manifest.json").write_text(wrong.to_json())
        refused(shards, "do not add up", where=shards / "manifest.json")


def test_nothing_appears_when_writing_fails(tmp_path):
    def give_up() -> None:
        with ShardWriter(tmp_path / "s", TOKENIZER) as writer:
            writer.write("train", TRAIN)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        give_up()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(shards):
    before = {path: path.read_bytes() for path in files_of(shards)}
    with pytest.raises(UsageError, match="already"):
        write_shards(shards, {"train": [TRAIN]}, TOKENIZER)
    assert {path: path.read_bytes() for path in files_of(shards)} == before


def test_of_two_writers_one_wins_and_no_trace_of_the_other_stays(tmp_path):
    with ShardWriter(tmp_path / "s", TOKENIZER, key="slow") as slow:
        slow.write("train", TRAIN)
        write_shards(tmp_path / "s", {"train": [TRAIN]}, TOKENIZER, key="fast")
    assert ShardDirectory.open(tmp_path / "s").key == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_split_is_written_in_one_go(tmp_path):
    with ShardWriter(tmp_path / "s", TOKENIZER) as writer:
        writer.write("train", TRAIN)
        writer.write("validation", TRAIN)
        with pytest.raises(UsageError, match="one go"):
            writer.write("train", TRAIN)


FULL_DISK = """
import resource, signal, sys
import numpy as np
from primer.data.writer import write_shards
from primer.errors import SurroundingsError
from primer.tokens import ByteTokenizer

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_shards(sys.argv[1], {"train": [np.zeros(200_000, dtype=np.uint8)]}, ByteTokenizer())
except SurroundingsError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "files may not grow that large here" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_the_surroundings_fault(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SurroundingsError, match="cannot be written"):
        write_shards(tmp_path / "file" / "s", {"train": [TRAIN]}, TOKENIZER)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_reading_all_of_a_memory_map_costs_no_memory_of_our_own(tmp_path):
    """The story: memory that grows with a memory map until the machine kills the run."""

    def own_megabytes() -> float:
        gc.collect()
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

    size = 64 << 20
    ids = np.zeros(size, dtype=np.uint8)
    shards = write_shards(tmp_path / "s", {"train": [ids]}, ByteTokenizer())
    del ids
    train = shards.tokens("train")
    before = own_megabytes()
    total = sum(int(train[start : start + 4096].sum()) for start in range(0, size, 4096))
    assert total == 0
    assert own_megabytes() - before < 8
    os.truncate(tmp_path / "s" / "train_00000.bin", size)  # the size is checked before the map
    refused(tmp_path / "s", "holds 67108864 bytes")
