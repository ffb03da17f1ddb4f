import gc
import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bpe_setup import judge
from primer.assets import BLOCK, seal
from primer.data import foreign
from primer.data.batches import BatchStream
from primer.data.foreign import is_foreign, open_foreign
from primer.data.layout import read_layout
from primer.data.writer import write_shards
from primer.errors import DataError
from primer.tokens import CharTokenizer
from primer.tokens.gpt2 import gpt2

TOKENIZER = CharTokenizer("".join(map(chr, range(0x100, 0x100 + 1000))))
WIDE = CharTokenizer("".join(chr(p) for p in range(0x30000) if not 0xD800 <= p < 0xE000))
"""More than 128,000 characters: room for ids of Llama 3, and too much for 16 bits."""
IDS = np.random.default_rng(0).integers(1000, size=700)
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def bin_file(ids, magic=20240520, version=1, count=None, dtype="<u2", rest=()) -> bytes:
    """As llm.c's write_datafile: 256 int32, then the ids."""
    head = np.zeros(256, dtype="<i4")
    head[:3] = magic, version, len(ids) if count is None else count
    head[3 : 3 + len(rest)] = rest
    return head.tobytes() + np.asarray(ids).astype(dtype).tobytes()


def npy_file(ids, dtype="<u2") -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(ids).astype(dtype))
    return file.getvalue()


@pytest.fixture
def folder(tmp_path):
    """llm.c's names: the first shard of the text is for validation."""
    tmp_path = tmp_path / "fineweb10B"
    tmp_path.mkdir()
    (tmp_path / "fineweb_val_000000.bin").write_bytes(bin_file(IDS[:100]))
    for number, start in enumerate((100, 300, 500), start=1):
        (tmp_path / f"fineweb_train_{number:06d}.bin").write_bytes(bin_file(IDS[start : start + 200]))
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """The files that were read through."""
    seen: list[str] = []
    scan = foreign._Check._scan

    def seen_scan(self, path, file, layout):
        seen.append(path.name)
        return scan(self, path, file, layout)

    monkeypatch.setattr(foreign._Check, "_scan", seen_scan)
    return seen


def refused(folder: Path, match: str, where: Path | None = None, tokenizer=TOKENIZER, **options) -> None:
    with pytest.raises(DataError, match=match) as caught:
        open_foreign(folder, tokenizer, **options)
    assert caught.value.where == str(where or folder)
    assert caught.value.hint


def outcome(read):
    """(what was read, None), or (None, the DataError)."""
    try:
        return read(), None
    except DataError as error:
        return None, error


FORMATS = {
    "bin": (lambda ids: bin_file(ids), TOKENIZER),
    "llama": (lambda ids: bin_file(ids, 20240801, 7, dtype="<u4"), WIDE),
    **{
        f"npy {dtype}": (lambda ids, dtype=dtype: npy_file(ids, dtype), TOKENIZER)
        for dtype in ("<u2", "<u4", "<i4", "<i8", ">u2", ">i8")
    },
}


@given(data=st.data(), kind=st.sampled_from(sorted(FORMATS)))
def test_what_was_written_is_read_whatever_the_format_and_the_cuts(tmp_path_factory, data, kind):
    content, tokenizer = FORMATS[kind]
    suffix = "npy" if kind.startswith("npy") else "bin"
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), min_size=2, max_size=60))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(ids) - 1), min_size=1, max_size=5)))
    folder = tmp_path_factory.mktemp("s")
    for number, (a, b) in enumerate(zip([0, *cuts], [*cuts, len(ids)], strict=True)):
        split = "train" if number else "val"
        (folder / f"edufineweb_{split}_{number:06d}.{suffix}").write_bytes(content(ids[a:b]))
    shards = open_foreign(folder, tokenizer)
    assert is_foreign(folder)
    assert shards.tokens("validation")[:].tolist() == ids[: cuts[0]]
    train = shards.tokens("train")
    assert train[:].tolist() == ids[cuts[0] :]
    for _ in range(5):
        start, stop = data.draw(st.integers(-70, 70)), data.draw(st.integers(-70, 70))
        assert train[start:stop].tolist() == ids[cuts[0] :][start:stop]
    assert {split: counts["tokens"] for split, counts in shards.counts.items()} == {
        "train": len(ids) - cuts[0], "validation": cuts[0],
    }  # fmt: skip
    shutil.rmtree(folder)


def test_others_read_the_same_files(folder):
    """As modded-nanogpt's loader does: the header and the ids through torch.from_file."""
    mine = open_foreign(folder, TOKENIZER).tokens("train")
    theirs = []
    for file in sorted(folder.glob("fineweb_train_*.bin")):
        count = int(torch.from_file(str(file), False, 256, dtype=torch.int32)[2])
        theirs += torch.from_file(str(file), False, 512 + count, dtype=torch.uint16)[512:].tolist()
    assert mine[:].tolist() == theirs == IDS[100:].tolist()


def test_a_stream_over_it_gives_the_windows_of_the_text(folder):
    options = {"batch_size": 3, "context_length": 7, "seed": 1}
    mine = BatchStream(open_foreign(folder, TOKENIZER).tokens("train"), **options)
    plain = BatchStream(IDS[100:], **options)
    for _ in range(40):
        batch, expected = mine.next(), plain.next()
        assert torch.equal(batch.inputs, expected.inputs)
        assert torch.equal(batch.targets, expected.targets)


def test_files_are_mapped_in_the_order_of_their_names(tmp_path):
    """Which is that of everyone's sorted(glob), unpadded numbers or not."""
    for number in (8, 9, 10):
        (tmp_path / f"train_{number}.bin").write_bytes(bin_file([number]))
    (tmp_path / "val.bin").write_bytes(bin_file([0]))
    assert open_foreign(tmp_path, TOKENIZER).tokens("train")[:].tolist() == [10, 8, 9]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["fineweb_val_000000.bin"], True),
        (["edufineweb_train_000001.npy", "README.md"], True),
        (["TinyStories_train.bin", "TinyStories_val.bin"], True),
        (["Train.BIN"], True),
        (["medieval.npy", "training.txt", "trainer.bin", "interval_00.bin", "x.bin"], False),
        (["train_00000.bin", "validation_00000.bin", "manifest.json"], False),
        ([], False),
    ],
)
def test_what_looks_like_token_files(tmp_path, names, expected):
    for name in names:
        (tmp_path / name).touch()
    assert is_foreign(tmp_path) is expected
    assert is_foreign(str(tmp_path)) is expected


def test_a_name_a_file_and_shards_of_ours_do_not(tmp_path, folder):
    ours = write_shards(tmp_path / "s", {"train": [IDS]}, TOKENIZER).path
    for other in ("shakespeare", folder / "fineweb_val_000000.bin", ours, "x" * 5000, tmp_path / "absent"):
        assert not is_foreign(other)


def test_the_fingerprint_is_that_of_names_contents_and_vocabulary(folder, tmp_path):
    first = open_foreign(folder, TOKENIZER).fingerprint
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert open_foreign(copy, TOKENIZER).fingerprint == first
    other = CharTokenizer(TOKENIZER.characters[::-1])
    assert open_foreign(copy, other).fingerprint != first
    a, b = copy / "fineweb_train_000001.bin", copy / "fineweb_train_000002.bin"
    contents = a.read_bytes(), b.read_bytes()
    b.write_bytes(contents[0]), a.write_bytes(contents[1])
    assert open_foreign(copy, TOKENIZER).fingerprint != first
    for number in (3, 2, 1):
        (copy / f"fineweb_train_00000{number}.bin").rename(copy / f"fineweb_train_00000{number + 1}.bin")
    b.write_bytes(contents[0]), (copy / "fineweb_train_000003.bin").write_bytes(contents[1])
    assert open_foreign(copy, TOKENIZER).tokens("train")[:].tolist() == IDS[100:].tolist()
    assert open_foreign(copy, TOKENIZER).fingerprint != first


def test_a_file_is_read_through_once(folder, reads, cache):
    shards = open_foreign(folder, TOKENIZER)
    assert sorted(reads) == sorted(os.listdir(folder))
    (index,) = (cache / "foreign").iterdir()
    kept = json.loads(index.read_text())["files"]
    for file in folder.iterdir():
        entry = kept[str(file.resolve())]
        assert entry["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        ids = np.fromfile(file, "<u2", offset=1024)
        assert (entry["lowest"], entry["highest"]) == (ids.min(), ids.max())
    reads.clear()
    again = open_foreign(folder, TOKENIZER)
    assert reads == []
    assert again.fingerprint == shards.fingerprint
    linked = folder.parent / "link"
    linked.symlink_to(folder)
    assert open_foreign(linked, TOKENIZER).fingerprint == shards.fingerprint
    assert reads == []


@pytest.mark.parametrize("change", ["time", "size"])
def test_a_changed_file_is_noticed_and_read_again(folder, reads, change):
    before = open_foreign(folder, TOKENIZER)
    path = folder / "fineweb_train_000002.bin"
    reads.clear()
    state = path.stat()
    path.write_bytes(bin_file(IDS[300:499] if change == "size" else IDS[300:500][::-1]))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + (change == "time")))
    after = open_foreign(folder, TOKENIZER)
    assert reads == [path.name]
    assert after.fingerprint != before.fingerprint
    path.write_bytes(bin_file(IDS[300:500]))
    assert open_foreign(folder, TOKENIZER).fingerprint == before.fingerprint


def test_a_vocabulary_that_became_smaller_is_judged_without_the_index_being_believed(folder, reads):
    open_foreign(folder, TOKENIZER)
    small = CharTokenizer(TOKENIZER.characters[:500])
    place = int(np.flatnonzero(IDS[:100] >= 500)[0])
    assert (IDS[100:300] >= 500).any()
    train = int(np.flatnonzero(IDS[100:300] >= 500)[0])
    refused(
        folder,
        f"token {train} of fineweb_train_000001.bin is {IDS[100 + train]}, outside the vocabulary of 500",
        folder / "fineweb_train_000001.bin",
        small,
    )
    for file in folder.glob("*train*"):
        file.write_bytes(bin_file([1]))
    refused(folder, f"token {place} of fineweb_val_000000.bin", folder / "fineweb_val_000000.bin", small)


@pytest.mark.parametrize("damage", ["bit", "empty", "text", "other fields", "other version"])
def test_a_damaged_index_is_made_again(folder, reads, cache, damage, caplog):
    good = open_foreign(folder, TOKENIZER)
    (index,) = (cache / "foreign").iterdir()
    content = bytearray(index.read_bytes())
    content[len(content) // 2] ^= 1
    bad = {
        "bit": bytes(content),
        "empty": b"",
        "text": b"\xff{",
        "other fields": seal({"kind": foreign.KIND, "version": 1, "files": {"a": {"size": 1}}}).encode(),
        "other version": seal({"kind": foreign.KIND, "version": 2, "files": []}).encode(),
    }
    index.write_bytes(bad[damage])
    reads.clear()
    assert open_foreign(folder, TOKENIZER).fingerprint == good.fingerprint
    assert len(reads) == 4
    assert ("making it again" in caplog.text) == (damage != "other version")
    reads.clear()
    open_foreign(folder, TOKENIZER)
    assert reads == []


def test_reading_that_was_interrupted_goes_on(folder, reads):
    def stop_in_the_third(stage: str, done: int, total: int) -> None:
        if len(reads) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_foreign(folder, TOKENIZER, progress=stop_in_the_third)
    first = list(reads)
    reads.clear()
    open_foreign(folder, TOKENIZER)
    assert reads == [first[2], *reads[1:]]
    assert len(reads) == 2


def test_without_verifying_nothing_is_read_through_and_the_fingerprint_is_another(folder, reads):
    (folder / "fineweb_train_000003.bin").write_bytes(bin_file([65535] * 200))
    loose = open_foreign(folder, TOKENIZER, verify=False)
    assert loose.tokens("train")[-1:].tolist() == [65535]
    assert reads == []
    (folder / "fineweb_train_000003.bin").write_bytes(bin_file(IDS[500:]))
    known = open_foreign(folder, TOKENIZER)
    assert open_foreign(folder, TOKENIZER, verify=False).fingerprint == known.fingerprint != loose.fingerprint


def test_progress_counts_every_byte_once(folder):
    seen: list[tuple[str, int, int]] = []
    total = sum(file.stat().st_size for file in folder.iterdir())
    for _ in range(2):
        seen.clear()
        open_foreign(folder, TOKENIZER, progress=lambda *report: seen.append(report))
        assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
        assert seen[-1] == ("check", total, total)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "cut short: 0 bytes are no header"),
        (bin_file([1])[:1023], "cut short: 1023 bytes"),
        (bytes(2000), "begins with 0, which is no magic number"),
        (bin_file([1], magic=20240521), "begins with 20240521"),
        (bin_file([1], magic=20240522), "questions with answers"),
        (bin_file([1], version=2), "version 2"),
        (bin_file([1], version=7), "version 7"),
        (bin_file([1], magic=20240801), "version 1"),
        (bin_file([1], magic=20240801, version=7, dtype="<u4"), "ids of Llama 3.*of 1000"),
        (bin_file([1], count=-1), "damaged header"),
        (bin_file([1], rest=[1]), "damaged header"),
        (bin_file([1, 2], count=3), "cut short: 1028 bytes where its 3 tokens ask for 1030"),
        (bin_file([1, 2], count=1), "too long: 1028 bytes where its 1 tokens ask for 1026"),
        (bin_file([1, 2])[:-1], "cut short: 1027 bytes"),
        (bin_file([1, 2]) + b"x", "too long: 1029 bytes"),
        (bin_file([]), "holds no tokens"),
        (bin_file([5, 999, 1000]), "token 2 of .* is 1000, outside the vocabulary of 1000"),
        (np.arange(2000).astype("<u2").tobytes(), "no magic number"),
    ],
)  # fmt: skip
def test_a_bin_file_that_cannot_be_right(folder, content, complaint):
    path = folder / "fineweb_train_000002.bin"
    path.write_bytes(content)
    refused(folder, complaint, path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no .npy file"),
        (bin_file([1]), "no .npy file"),
        (npy_file([1]).replace(b"descr", b"drops"), "no .npy file"),
        (npy_file([1]).replace(b"(1,)", b"[1,]"), "no .npy file"),
        (npy_file([1]).replace(b"NUMPY\x01", b"NUMPY\x03"), "no .npy file"),
        (npy_file([1])[:-1], "cut short"),
        (npy_file([1]) + b"x", "too long"),
        (npy_file([]), "holds no tokens"),
        (npy_file([1.5], "f8"), "holds float64, which are no token ids"),
        (npy_file([1], "u1"), "holds uint8"),
        (npy_file([True], "?"), "holds bool"),
        (npy_file(["a"], "U1"), "holds <U1"),
        (npy_file([[1, 2]]), r"shape \(1, 2\)"),
        (npy_file(5), r"shape \(\)"),
        (npy_file([7, -3], "<i4"), "token 1 of .* is -3"),
        (npy_file([7, 2**40], "<i8"), "token 1 of .* is 1099511627776"),
        (npy_file([7, 2**32 - 1], ">u4"), "token 1 of .* is 4294967295"),
    ],
)  # fmt: skip
def test_a_npy_file_that_cannot_be_right(folder, content, complaint):
    for file in folder.glob("*train*"):
        file.unlink()
    path = folder / "fineweb_train_000001.npy"
    path.write_bytes(content)
    refused(folder, complaint, path)


def test_an_object_array_is_refused_and_its_pickle_never_opened(folder):
    for file in folder.glob("*train*"):
        file.unlink()
    path = folder / "train.npy"
    np.save(path, np.array([print], dtype=object), allow_pickle=True)
    refused(folder, "holds object", path)


@pytest.mark.parametrize("suffix", ["bin", "npy"])
def test_sixteen_bits_do_not_hold_a_larger_vocabulary(tmp_path, suffix):
    content = bin_file if suffix == "bin" else npy_file
    for name in ("train", "val"):
        (tmp_path / f"{name}.{suffix}").write_bytes(content([1, 2]))
    refused(tmp_path, "16 bits: not those of a vocabulary of", tmp_path / f"train.{suffix}", WIDE)


def test_a_bad_id_far_into_a_file_is_named_by_its_place(folder):
    ids = np.zeros(BLOCK, "<u2")  # two blocks
    place = BLOCK // 2 + 77
    ids[[place, place + 5]] = 1000, 2000
    path = folder / "fineweb_train_000002.bin"
    path.write_bytes(bin_file(ids))
    refused(folder, f"token {place} of fineweb_train_000002.bin is 1000", path)


def test_a_folder_that_is_not_whole(folder):
    refused(folder / "absent", "no such folder")
    missing = folder / "fineweb_train_000002.bin"
    missing.rename(folder / "aside")
    refused(folder, "fineweb_train_000002.bin is missing", missing)
    (folder / "aside").rename(missing)
    shutil.copy(missing, folder / "fineweb_train_2.bin")
    refused(folder, "twice under one number", folder / "fineweb_train_2.bin")
    (folder / "fineweb_train_2.bin").rename(folder / "edufineweb_train_000004.bin")
    refused(folder, "belong to different sets", folder / "fineweb_train_000001.bin")
    (folder / "edufineweb_train_000004.bin").rename(folder / "fineweb_train_000004.npy")
    refused(folder, "belong to different sets", folder / "fineweb_train_000004.npy")
    (folder / "fineweb_train_000004.npy").rename(folder / "fineweb_train_val_000004.bin")
    refused(folder, "nobody can tell which", folder / "fineweb_train_val_000004.bin")
    (folder / "fineweb_train_val_000004.bin").unlink()
    (folder / "fineweb_train_000004.bin").symlink_to(folder / "gone")
    refused(folder, "is no file", folder / "fineweb_train_000004.bin")
    (folder / "fineweb_train_000004.bin").unlink()
    assert len(open_foreign(folder, TOKENIZER).tokens("train")) == 600
    (folder / "fineweb_val_000000.bin").rename(folder / "aside")
    refused(folder, "no validation tokens")
    (folder / "aside").rename(folder / "fineweb_val_000000.bin")
    for file in folder.glob("*train*"):
        file.unlink()
    refused(folder, "no training tokens")


def test_shards_of_ours_without_their_manifest(tmp_path):
    path = write_shards(tmp_path / "s", {"train": [IDS], "validation": [IDS]}, TOKENIZER).path
    (path / "manifest.json").unlink()
    refused(path, "lost its manifest", path / "train_00000.bin")


def test_a_file_that_changes_while_it_is_read(folder):
    path = folder / "fineweb_train_000001.bin"

    def touch(stage: str, done: int, total: int) -> None:
        os.utime(path, ns=(0, 1))

    refused(folder, "changed while it was read", path, progress=touch)


@settings(FILES, max_examples=100)
@given(data=st.data())
def test_every_flipped_bit_of_a_header_is_refused_and_its_file_named(folder, data):
    path = folder / "fineweb_train_000001.bin"
    good = path.read_bytes()
    broken = bytearray(good)
    bit = data.draw(st.one_of(st.integers(0, 8 * 12 - 1), st.integers(0, 8 * 1024 - 1)))
    broken[bit // 8] ^= 1 << bit % 8
    path.write_bytes(broken)
    try:
        refused(folder, "fineweb_train_000001.bin", path)
    finally:
        path.write_bytes(good)


@settings(FILES, max_examples=100)
@given(part=st.floats(0, 1, exclude_max=True), short=st.booleans(), suffix=st.sampled_from(["bin", "npy"]))
def test_every_truncation_and_extension_is_refused_and_its_file_named(folder, part, short, suffix):
    for file in folder.glob("*train*"):
        file.unlink()
    content = (bin_file if suffix == "bin" else npy_file)(IDS)
    place = int(part * len(content))
    path = folder / f"train.{suffix}"
    path.write_bytes(content[:place] if short else content + content[place:])
    refused(folder, path.name, path)


def test_any_flipped_bit_after_the_header_makes_another_fingerprint_or_is_refused(folder):
    """There is no checksum that would tell which is right; but a run that goes on notices."""
    good = open_foreign(folder, TOKENIZER).fingerprint
    path = folder / "fineweb_train_000001.bin"
    content = path.read_bytes()
    for number, bit in enumerate(range(8 * 1024, 8 * len(content), 101)):
        broken = bytearray(content)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        os.utime(path, ns=(0, number))
        found, error = outcome(lambda: open_foreign(folder, TOKENIZER).fingerprint)
        assert found != good
        assert error is None or error.where == str(path)


def headers():
    """Headers of .npy files, some of them nearly right."""
    text = st.one_of(
        st.binary(max_size=150),
        st.builds(
            "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}\n".format,
            st.sampled_from(["'<u2'", "'|O'", "[('a', '<u2')]", "'<u2,<u2'", "'(2,)<u2'", "u2", "'M8[s]'", "None"]),
            st.sampled_from(["False", "True", "3"]),
            st.sampled_from(["(3,)", "()", "(-3,)", "(3L,)", "(1e9,)", "(10**400,)", f"({10**30},)", "(True,)"]),
        ).map(str.encode),
    )  # fmt: skip
    return text.map(lambda body: b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body + bytes(6))


@settings(max_examples=300)
@given(head=st.one_of(st.binary(max_size=2000), headers()), suffix=st.sampled_from(["bin", "npy"]))
@example(b"\x93NUMPY\x01\x00" + (9000).to_bytes(2, "little") + b"(" * 9000, "npy")
@example(b"\x93NUMPY\x02\x00" + (1 << 31).to_bytes(4, "little") + b"{}", "npy")
def test_whatever_a_header_holds_it_is_read_or_refused_in_our_words(tmp_path_factory, head, suffix):
    path = tmp_path_factory.getbasetemp() / f"fuzz.{suffix}"
    path.write_bytes(head)
    with path.open("rb") as file:
        layout, error = outcome(lambda: read_layout(path, file, 50257))
    if layout is None:
        assert error is not None
        assert error.where == str(path)
    else:
        assert layout.offset + layout.count * layout.dtype.itemsize == len(head)
        assert layout.dtype.kind in "ui"


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
@example(20240520, 1, 3)
def test_a_bin_header_means_what_its_three_numbers_say(tmp_path_factory, magic, version, count):
    path = tmp_path_factory.getbasetemp() / "numbers.bin"
    path.write_bytes(bin_file([1, 2, 3], magic, version, count))
    with path.open("rb") as file:
        if (magic, version, count) == (20240520, 1, 3):
            assert read_layout(path, file, 50257).count == 3
        else:
            with pytest.raises(DataError, match=r"numbers\.bin"):
                read_layout(path, file, 50257)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_files(tmp_path):
    def own_megabytes() -> float:
        gc.collect()
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

    size = 32 << 20
    for name in ("train", "val"):
        with (tmp_path / f"{name}.bin").open("wb") as file:
            file.write(bin_file([], count=size))
            file.truncate(1024 + 2 * size)
    most = before = own_megabytes()

    def look(stage: str, done: int, total: int) -> None:
        nonlocal most
        if done % (1 << 24) < BLOCK:
            most = max(most, own_megabytes())

    shards = open_foreign(tmp_path, TOKENIZER, progress=look)
    train = shards.tokens("train")
    total = sum(int(train[start : start + 4096].sum()) for start in range(0, size, 4096))
    assert total == 0
    assert max(most, own_megabytes()) - before < 12


def test_gpt2s_ids_mean_its_text(tmp_path, real_data):
    """Ids of tiktoken (here with <|endoftext|>, in the published vocabulary), written as llm.c writes them."""
    mine = gpt2(download=False)
    theirs = judge(mine)
    text = "Once upon a time – naïvely, 你好."
    ids = [50256, *theirs.encode_ordinary(text)]
    for name in ("fineweb_val_000000.bin", "fineweb_train_000001.bin"):
        (tmp_path / name).write_bytes(bin_file(ids))
    read = open_foreign(tmp_path, mine).tokens("train")[:].tolist()
    assert read[0] == mine.special_tokens["<|endoftext|>"]
    assert mine.decode(read[1:]) == text
