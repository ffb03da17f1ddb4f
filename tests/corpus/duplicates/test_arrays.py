import numpy as np
import pytest

from primer.corpus.duplicates.arrays import open_arrays, write_arrays
from primer.errors import DataError

ARRAYS = [
    np.arange(12, dtype=np.uint64).reshape(4, 3)[:, ::2],  # with gaps
    np.empty((0, 2), dtype=np.int64),
    np.array([1, -2], dtype=">i4"),
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "made" / "file"
    write_arrays(path, "kind", {"n": 1}, ARRAYS)
    return path


def test_each_array_comes_back_alone(file):
    opened = open_arrays(file, "kind")
    assert opened.fields == {"n": 1}
    for number in (2, 0, 1):
        found = opened.read(number)
        assert found.shape == ARRAYS[number].shape
        assert found.tolist() == ARRAYS[number].tolist()
    assert file.read_bytes().endswith(bytes([1, 0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF])), "little end first"


def test_a_changed_byte_is_noticed_where_it_lies_and_nowhere_else(file):
    whole = file.read_bytes()
    start = open_arrays(file, "kind").start
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if place < start:
            with pytest.raises(DataError):
                open_arrays(file, "kind")
            continue
        damaged, good = (0, 2) if place < start + 64 else (2, 0)
        assert open_arrays(file, "kind").read(good).tolist() == ARRAYS[good].tolist()
        with pytest.raises(DataError, match="checksum"):
            open_arrays(file, "kind").read(damaged)


def test_a_file_that_was_cut_off_or_is_something_else_is_refused(file):
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="checksum"):
        open_arrays(file, "kind").read(2)
    with pytest.raises(DataError, match="holds kind, not another"):
        open_arrays(file, "another")
    for other in (b"", b"\n", b"\xff" * 100, b"{}\n"):
        file.write_bytes(other)
        with pytest.raises(DataError):
            open_arrays(file, "kind")
    with pytest.raises(DataError, match="no such file"):
        open_arrays(file.with_name("absent"), "kind")


def test_the_key_follows_the_contents(file):
    key = open_arrays(file, "kind").key
    write_arrays(file, "kind", {"n": 1}, ARRAYS)
    assert open_arrays(file, "kind").key == key
    write_arrays(file, "kind", {"n": 1}, [ARRAYS[0] + np.uint64(1), *ARRAYS[1:]])
    assert open_arrays(file, "kind").key != key
