"""Receipts: work that is not whole, not of this key, or not as it was written, was not done."""

from __future__ import annotations

import gc
import json
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from primer.corpus.refine.store import Store, load, parquet_file, save, stored
from primer.errors import DataError, PrimerError

KEY = "0123456789abcdef"


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Store, Path, Path]:
    """A store with one task that is done: its file, its receipt."""
    store = Store(tmp_path)
    made = tmp_path / "kept" / "a.bin"
    made.parent.mkdir()
    made.write_bytes(b"what was made")
    store.sign("job", KEY, "task", {made: sha256(b"what was made").hexdigest()}, {"rows": 3})
    return store, made, store.folder("job", KEY) / "task.json"


def test_a_receipt_names_what_was_made(signed: tuple[Store, Path, Path]) -> None:
    store, _, receipt = signed
    found = store.receipt("job", KEY, "task")
    assert found is not None
    assert (found.key, found.tally) == (KEY, {"rows": 3})
    assert found.outputs == {"kept/a.bin": sha256(b"what was made").hexdigest()}
    assert receipt == store.out / "work" / f"job-{KEY[:12]}" / "task.json"


def test_a_corpus_may_be_moved(signed: tuple[Store, Path, Path], tmp_path: Path) -> None:
    store, *_ = signed
    moved = store.out.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert Store(moved).receipt("job", KEY, "task") is not None


def test_what_was_not_done_like_this_has_no_receipt(signed: tuple[Store, Path, Path]) -> None:
    """The folder's name holds only the beginning of a key; the receipt all of it."""
    store, *_ = signed
    assert store.receipt("job", KEY[:12] + "ffff", "task") is None
    assert store.receipt("job", KEY, "other") is None
    assert store.receipt("other", KEY, "task") is None


def test_what_is_not_as_it_was_written_was_not_done(signed: tuple[Store, Path, Path]) -> None:
    store, made, _ = signed
    made.write_bytes(b"what was mede")
    assert store.receipt("job", KEY, "task") is None
    made.write_bytes(b"what was made")
    assert store.receipt("job", KEY, "task") is not None
    made.unlink()
    assert store.receipt("job", KEY, "task") is None


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_torn_receipt_is_none(signed: tuple[Store, Path, Path], cut: int) -> None:
    store, _, receipt = signed
    receipt.write_text(receipt.read_text()[:cut])
    assert store.receipt("job", KEY, "task") is None


def test_a_receipt_that_was_changed_is_none(signed: tuple[Store, Path, Path]) -> None:
    store, _, receipt = signed
    text = receipt.read_text()
    for changed in (text.replace('"rows":3', '"rows":4'), text + " ", "[1]", "\x00"):
        receipt.write_text(changed)
        assert store.receipt("job", KEY, "task") is None
    receipt.write_bytes(b"\xff\xfe")
    assert store.receipt("job", KEY, "task") is None
    receipt.write_text(text)
    assert store.receipt("job", KEY, "task") is not None


def test_measurements_outlive_other_thresholds_and_decisions_do_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    names = ("annotate-1", "annotate-2", "select-1", "select-2", "finish-1", "logs")
    for name in names:
        (tmp_path / "work" / name).mkdir(parents=True)
        (tmp_path / "work" / name / "file").touch()
    store.forget({tmp_path / "work" / "select-2", tmp_path / "work" / "annotate-2"})
    left = {path.parent.name for path in tmp_path.rglob("file")}
    assert left == {"annotate-1", "annotate-2", "select-2", "logs"}


def table(*values: int) -> pa.Table:
    return pa.table({"a": values, "b": [str(value) for value in values]})


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.parquet"
    with parquet_file(path) as (write, files):
        for values in ((1, 2), (3,), (4, 5)):
            write(table(*values))
        assert files == {}, "nothing is known of a file that is not whole"
    assert files == {path: sha256(path.read_bytes()).hexdigest()}
    assert [each["a"].to_pylist() for each in stored(path)] == [[1, 2], [3], [4, 5]]
    assert [each.column_names for each in stored(path, ["b"])] == [["b"]] * 3
    assert pq.read_table(path) == table(1, 2, 3, 4, 5)


def test_nothing_written_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    with parquet_file(path) as (_, files):
        pass
    assert files == {}
    assert list(tmp_path.iterdir()) == []
    assert list(stored(path)) == []


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"

    def half(values: tuple[int, ...]) -> None:
        with parquet_file(path) as (write, _):
            write(table(*values))
            raise KeyError("half way")

    with pytest.raises(KeyError):
        half((1,))
    assert list(tmp_path.iterdir()) == []
    with parquet_file(path) as (write, _):
        write(table(1))
    before = path.read_bytes()
    with pytest.raises(KeyError):
        half((2,))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    gc.collect()  # so that whatever complains does it here


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with parquet_file(tmp_path / name) as (write, _):
            write(table(1, 2))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_plan_is_read_as_it_was_written_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "corpus" / "plan.json"
    with pytest.raises(DataError, match="no corpus is here") as error:
        load(path)
    assert error.value.where == str(path.parent)
    save(path, {"units": (1, 2), "name": "ä"})
    assert load(path) == {"units": [1, 2], "name": "ä"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "units": [1]}))
    with pytest.raises(PrimerError, match="damaged"):
        load(path)
