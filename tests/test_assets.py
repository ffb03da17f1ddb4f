import hashlib
import logging
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer import assets
from primer.assets import Asset, cache_dir, data_dir, find, replacing, seal, sweep, unseal, whole_folder
from primer.errors import DataError, SurroundingsError, UsageError

CONTENT = b"to be or not to be\n"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PRIMER_DATA", raising=False)
    return tmp_path / "cache" / "primer"


def asset(url: str, content: bytes = CONTENT, size: int = len(CONTENT)) -> Asset:
    return Asset(
        "a speech", "speech/input.txt", url, hashlib.sha256(content).hexdigest(), "public domain", size
    )


def served(tmp_path: Path, content: bytes = CONTENT) -> str:
    (tmp_path / "remote.txt").write_bytes(content)
    return (tmp_path / "remote.txt").as_uri()


def test_the_users_data_come_first_then_the_cache_then_a_download(tmp_path, cache, monkeypatch):
    wanted = asset(served(tmp_path))
    assert find(wanted) == cache / "speech/input.txt"
    assert (cache / "speech/input.txt").read_bytes() == CONTENT
    (tmp_path / "remote.txt").unlink()
    assert find(wanted) == cache / "speech/input.txt"
    own = tmp_path / "data/speech/input.txt"
    own.parent.mkdir(parents=True)
    own.write_bytes(CONTENT)
    monkeypatch.setenv("PRIMER_DATA", str(tmp_path / "data"))
    assert find(wanted) == own


def test_a_download_that_is_another_file_is_refused_and_leaves_nothing(tmp_path, cache):
    with pytest.raises(DataError, match="SHA-256 differs"):
        find(asset(served(tmp_path, CONTENT[::-1])))
    assert [p for p in cache.rglob("*") if p.is_file()] == []


def test_a_download_is_read_no_further_than_its_size(tmp_path, cache):
    endless = CONTENT * 1000
    with pytest.raises(DataError, match="SHA-256 differs"):
        find(asset(served(tmp_path, endless), content=endless))


def test_offline_the_error_says_where_to_put_the_file(tmp_path, cache):
    with pytest.raises(SurroundingsError) as caught:
        find(asset((tmp_path / "absent").as_uri()))
    assert str(cache / "speech/input.txt") in caught.value.hint


def test_nothing_is_downloaded_unless_asked(tmp_path, cache):
    with pytest.raises(SurroundingsError, match="not here"):
        find(asset(served(tmp_path)), download=False)
    assert not (cache / "speech/input.txt").exists()


def test_a_damaged_copy_is_refused_and_named(tmp_path, cache):
    find(asset(served(tmp_path)))
    (cache / "speech/input.txt").write_bytes(CONTENT[:-1])
    with pytest.raises(DataError) as caught:
        find(asset(served(tmp_path)))
    assert caught.value.where == str(cache / "speech/input.txt")


def test_data_dir_is_none_or_a_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PRIMER_DATA", raising=False)
    assert data_dir() is None
    monkeypatch.setenv("PRIMER_DATA", str(tmp_path))
    assert data_dir() == tmp_path.resolve()
    monkeypatch.setenv("PRIMER_DATA", str(tmp_path / "absent"))
    with pytest.raises(SurroundingsError, match="PRIMER_DATA"):
        data_dir()


@pytest.mark.parametrize("reason", ["no home", "a file in the way"])
def test_without_a_home_a_private_temporary_folder_serves_and_says_so(tmp_path, monkeypatch, caplog, reason):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(assets.tempfile, "gettempdir", lambda: str(tmp_path))
    assets._warn_once.cache_clear()
    if reason == "no home":
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        (tmp_path / "home").write_text("")
        monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    with caplog.at_level(logging.WARNING, "primer"):
        folder = cache_dir()
        cache_dir()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o077 == 0
    assert len(caplog.records) == 1


def test_a_temporary_folder_that_others_may_write_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr(assets.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(assets, "_wanted_cache", lambda: None)
    trap = tmp_path / f"primer-{os.getuid()}"
    trap.mkdir()
    trap.chmod(0o777)
    with pytest.raises(SurroundingsError, match="no cache folder"):
        cache_dir()


def test_a_file_that_fails_half_way_does_not_appear(tmp_path):
    path = tmp_path / "whole"
    path.write_bytes(b"old")

    def give_up() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        give_up()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_what_cannot_be_written_is_the_surroundings_fault(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SurroundingsError, match="cannot be written"), replacing(tmp_path / "file" / "below"):
        pass


def test_only_what_the_dead_left_is_swept(tmp_path):
    path = tmp_path / "run [1]"  # with characters that mean something to a pattern
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    ours = assets.temporary_name(path)
    theirs = ours.with_name(ours.name.replace(f"-{os.getpid()}-", f"-{dead}-"))
    elsewhere = theirs.with_name(theirs.name.replace("tmp-", "tmp-anothermachine"))
    for folder in (ours, theirs, elsewhere):
        folder.mkdir()
    sweep(path)
    assert sorted(tmp_path.iterdir()) == sorted([ours, elsewhere])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None)
@given(st.dictionaries(st.text().filter(lambda key: key != "sha256"), json_values, max_size=3))
def test_what_is_sealed_comes_back(fields):
    assert unseal(seal(fields), "x.json") == fields


@settings(deadline=None)
@given(st.data())
def test_a_seal_notices_every_flipped_bit(data):
    whole = seal(
        {"kind": "char", "version": 1, "characters": "ab\n", "nested": {"a": [1, 2.5, None]}}
    ).encode()
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    broken = bytearray(whole)
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DataError) as caught:
        unseal(broken.decode("latin-1"), "x.json")
    assert caught.value.where == "x.json"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"a":1}', '{"sha256":1}', '{"sha256":"0"}', "[" * 100_000]
)
def test_what_was_never_sealed_is_refused(text):
    with pytest.raises(DataError, match="damaged"):
        unseal(text, "x.json")


def test_a_folder_appears_whole(tmp_path):
    with whole_folder(tmp_path / "deep" / "folder") as unfinished:
        (unfinished / "a.txt").write_text("a")
        assert not (tmp_path / "deep" / "folder").exists()
    assert [file.name for file in (tmp_path / "deep" / "folder").iterdir()] == ["a.txt"]
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["folder"]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), DataError("no"), OSError(28, "No space left on device")]
)
def test_a_folder_that_was_not_finished_never_appears(tmp_path, error):
    def fill():
        with whole_folder(tmp_path / "x") as unfinished:
            (unfinished / "a.txt").write_text("a")
            raise error

    with pytest.raises((KeyboardInterrupt, DataError, SurroundingsError)):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_nobodys_place(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("there", "link"):
        with pytest.raises(UsageError, match="something is here already"), whole_folder(tmp_path / name):
            pytest.fail("it was begun")
    with pytest.raises(UsageError, match="something is here already"), whole_folder(tmp_path / "x"):
        (tmp_path / "x").mkdir()  # someone else was faster; renaming would replace an empty folder
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there", "x"]
    assert list((tmp_path / "x").iterdir()) == []


def test_what_dead_processes_left_of_a_folder_is_removed(tmp_path):
    stale = tmp_path / f"x.tmp-{assets._MACHINE}-999999999-abc"
    stale.mkdir()
    with whole_folder(tmp_path / "x"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
