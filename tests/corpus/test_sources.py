import hashlib
import os
from pathlib import Path

import pytest

from primer.corpus import open_source, open_sources
from primer.corpus.sources import SHAKESPEARE
from primer.errors import DataError, UsageError


def test_a_file_is_read_as_text_whatever_its_ending(tmp_path):
    (tmp_path / "notes.org").write_bytes(b"one\ntwo\n")
    source = open_source(tmp_path / "notes.org")
    assert "".join(source.text()) == "one\ntwo\n"
    assert source.name == "notes.org"
    assert source.fingerprint == hashlib.sha256(b"one\ntwo\n").hexdigest()
    assert list(source.text()) == list(source.text())  # it can be read again


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden").mkdir()
    contents = {
        "b/z.md": "third", "b.txt": "second", "A.TXT": "first", ".hidden/x.txt": "never", ".y.txt": "never",
        "c.py": "never", "d.jsonl": '{"text": "fourth"}\n{"text": "fifth"}\n',
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_folder_is_read_in_the_order_of_its_names_with_blank_lines_between(folder):
    assert "".join(open_source(folder).text()) == "first\n\nsecond\n\nthird\n\nfourth\n\nfifth"
    assert [d.id for d in open_source(folder).documents()] == [
        "A.TXT",
        "b.txt",
        "b/z.md",
        "d.jsonl#1",
        "d.jsonl#2",
    ]


def test_the_order_is_not_the_machines(folder, monkeypatch):
    straight = "".join(open_source(folder).text())
    ordinary = os.walk

    def backwards(*args, **kwargs):
        for parent, folders, files in ordinary(*args, **kwargs):
            folders.sort(reverse=True)
            yield parent, folders, sorted(files, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    assert "".join(open_source(folder).text()) == straight


def test_the_fingerprint_follows_content_and_names_and_not_the_place(folder, tmp_path_factory):
    before = open_source(folder).fingerprint
    moved = folder.rename(tmp_path_factory.mktemp("elsewhere") / "moved")
    assert open_source(moved).fingerprint == before
    (moved / "b.txt").write_text("Second")
    changed = open_source(moved).fingerprint
    (moved / "b.txt").rename(moved / "a.txt")
    assert len({before, changed, open_source(moved).fingerprint}) == 3


def test_many_short_documents_arrive_as_few_pieces(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"text": "short"}\n' * 10_000)
    pieces = list(open_source(tmp_path / "d.jsonl").text())
    assert len(pieces) == 1
    assert pieces[0] == "\n\n".join(["short"] * 10_000)


@pytest.mark.parametrize("content", [{}, {"a.py": "x = 1"}, {".a.txt": "hidden"}])
def test_a_folder_without_text_is_refused(tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="a folder without text") as caught:
        open_source(tmp_path)
    assert ".jsonl" in caught.value.hint


def test_what_is_missing_is_named_and_a_known_name_suggested(tmp_path):
    with pytest.raises(DataError, match="shakespear") as caught:
        open_source("shakespear")
    assert caught.value.hint == "did you mean shakespeare?"
    with pytest.raises(DataError, match="no file or folder"):
        open_source(tmp_path / "absent.txt")
    with pytest.raises(DataError, match="no file or folder"):
        open_source("a\0b")


@pytest.mark.parametrize("place", ["itself", "in a folder"])
def test_a_fifo_is_refused_where_ever_it_lies(tmp_path, place):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match="a FIFO"):
        open_source(tmp_path / "pipe.txt" if place == "itself" else tmp_path)


def test_a_device_is_refused():
    with pytest.raises(DataError, match="a device"):
        open_source("/dev/zero")


def test_a_loop_of_linked_folders_ends(tmp_path):
    (tmp_path / "a.txt").write_text("once")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert "".join(open_source(tmp_path).text()) == "once"


def test_a_path_with_spaces_and_emoji(tmp_path):
    path = tmp_path / "my texts 😀" / "first one.txt"
    path.parent.mkdir()
    path.write_text("here", encoding="utf-8")
    assert "".join(open_source(str(path)).text()) == "here"
    assert "".join(open_source(path.parent).text()) == "here"


def test_shakespeare_is_taken_from_the_users_data(tmp_path, monkeypatch):
    content = b"O for a Muse of fire\n"
    (tmp_path / "shakespeare").mkdir()
    (tmp_path / "shakespeare/input.txt").write_bytes(content)
    monkeypatch.setenv("PRIMER_DATA", str(tmp_path))
    with pytest.raises(DataError, match="SHA-256 differs"):
        open_source("shakespeare")


def test_a_file_of_a_sources_name_is_reached_by_a_path(tmp_path, monkeypatch):
    (tmp_path / "shakespeare").write_text("mine")
    monkeypatch.chdir(tmp_path)
    assert "".join(open_source("./shakespeare").text()) == "mine"
    assert "".join(open_source(Path("shakespeare")).text()) == "mine"


@pytest.mark.skipif("PRIMER_DATA" not in os.environ, reason="PRIMER_DATA names no folder of real data")
def test_shakespeare_is_the_lectures():
    source = open_source("shakespeare")
    assert source.fingerprint == SHAKESPEARE.sha256
    assert (source.name, source.licence) == ("shakespeare", "public domain")
    assert sum(map(len, source.text())) == 1_115_394


def test_runs_in_a_folder_are_no_text_to_train_on(folder):
    run = folder / "runs" / "2026-01-01-default-aaaaaa"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (folder / "runs" / "notes.txt").write_text("mine")
    assert [name for name, _ in open_source(folder).files][-1] == "runs/notes.txt"
    assert len(open_source(folder).files) == 5


def test_an_empty_word_is_not_the_folder_that_one_stands_in():
    with pytest.raises(DataError, match="empty word"):
        open_source("")


def test_several_sources_are_one_and_none_is_read_twice(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"text {name}")
    both = open_sources([tmp_path / "b.txt", tmp_path / "a.txt"])
    assert [document.text for document in both.documents()] == ["text b", "text a"]
    assert both.name == "b.txt + a.txt"
    assert both.fingerprint != open_sources([tmp_path / "a.txt", tmp_path / "b.txt"]).fingerprint
    assert open_sources([tmp_path / "a.txt"]) == open_source(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="named twice"):
        open_sources([tmp_path / "a.txt", tmp_path])
    with pytest.raises(UsageError, match="no text is named"):
        open_sources([])
    with pytest.raises(UsageError, match="its own encoding"):
        open_sources(["python-docs", tmp_path / "a.txt"], encoding="latin-1")


def test_what_a_folder_holds_beside_texts_is_counted(tmp_path, caplog):
    for name in ("a.txt", "b.html", "c.rst", "d.html", "e", ".hidden.pdf"):
        (tmp_path / name).write_text("a page")
    open_source(tmp_path)
    assert "1 files read, 4 others left out (.html, .rst, no ending)" in caplog.text
