"""What is read, and how it is called: all names differ, whatever order things are named in and wherever they lie."""

from __future__ import annotations

import os
import shutil
import sys
from itertools import permutations
from pathlib import Path

import pytest

from primer.corpus.refine import inputs
from primer.corpus.refine.inputs import Input, find, stretches, units
from primer.corpus.refine.kept import Corpus
from primer.corpus.refine.pages import read
from primer.corpus.refine.plan import make
from primer.corpus.refine.recipe import resolve
from primer.corpus.refine.run import run
from primer.errors import UsageError

PLAIN = resolve("plain").config
BYTES_AS_NAMES = pytest.mark.skipif(sys.platform != "linux", reason="names there are Unicode")


def found(folder: Path, *specs: str, hashes: bool = True) -> tuple[Input, ...]:
    return find([folder / spec for spec in specs], {}, lambda *_: None, hashes=hashes)


def called(folder: Path, *specs: str) -> dict[str, str]:
    """Name by path in `folder`, the same for every order of what is named."""
    names = [
        [(each.name, Path(each.path).relative_to(folder).as_posix()) for each in found(folder, *order)]
        for order in permutations(specs)
    ]
    assert all(each == names[0] for each in names)
    assert len({name for name, _ in names[0]}) == len(names[0])
    return {path: name for name, path in names[0]}


def grouped(folder: Path, *specs: str) -> dict[str, str]:
    """Group by folder."""
    groups: dict[str, str] = {}
    for each in found(folder, *specs):
        place = Path(each.path).parent.relative_to(folder).as_posix()
        assert groups.setdefault(place, each.group) == each.group
    return groups


def write(folder: Path, *names: str, text: str = "") -> None:
    """Files, each with other words unless a text is given."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text or f"words of {name} alone\n")


def test_a_file_has_its_name_and_one_of_a_folder_its_path_in_it(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "crawl/b.txt", "crawl/sub/c.txt")
    assert called(tmp_path, "a.txt", "crawl") == {
        "a.txt": "a.txt",
        "crawl/b.txt": "b.txt",
        "crawl/sub/c.txt": "sub/c.txt",
    }


def test_the_same_name_twice_takes_in_so_many_folders_as_make_it_differ(tmp_path: Path) -> None:
    write(tmp_path, "C/x.txt", "D/x.txt", "D/y.txt", "p/2023/warc/z.txt", "p/2024/warc/z.txt")
    assert called(tmp_path, "C", "D") == {
        "C/x.txt": "C/x.txt",
        "D/x.txt": "D/x.txt",
        "D/y.txt": "y.txt",
    }
    both = {"p/2023/warc/z.txt": "2023/warc/z.txt", "p/2024/warc/z.txt": "2024/warc/z.txt"}
    assert called(tmp_path, "p/2023", "p/2024") == both
    assert called(tmp_path, "p/2023/warc/z.txt", "p/2024/warc/z.txt") == both


def test_a_longer_name_that_another_file_has_is_made_longer_too(tmp_path: Path) -> None:
    write(tmp_path, "p/C/x.txt", "p/D/x.txt", "q/E/C/x.txt")
    assert called(tmp_path, "p/C/x.txt", "p/D/x.txt", "q/E") == {
        "p/C/x.txt": "p/C/x.txt",
        "p/D/x.txt": "D/x.txt",
        "q/E/C/x.txt": "E/C/x.txt",
    }


def test_names_do_not_tell_where_it_all_lies(tmp_path: Path) -> None:
    """Not even what the folder is called that everything named is in."""
    here = tmp_path / "here"
    write(here, "x.txt", "sub/x.txt", "C/x.txt", "C/sub/x.txt")
    specs = ["x.txt", "sub/x.txt", "C"]
    there = Path(shutil.copytree(here, tmp_path / "other" / "there"))
    assert called(here, *specs) == called(there, *specs)
    assert called(here, *specs)["x.txt"] == "x.txt"
    assert grouped(here, *specs) == grouped(there, *specs)
    os.symlink(there, tmp_path / "link")
    by_link = [(each.name, each.group) for each in found(tmp_path / "link", *specs)]
    assert by_link == [(each.name, each.group) for each in found(there, *specs)]


def test_a_file_that_is_reached_twice_is_read_once_by_its_longer_name(tmp_path: Path) -> None:
    write(tmp_path, "E/x.txt", "E/sub/x.txt")
    once = called(tmp_path, "E")
    assert once == {"E/x.txt": "x.txt", "E/sub/x.txt": "sub/x.txt"}
    assert called(tmp_path, "E", "E/sub") == called(tmp_path, "E/sub/x.txt", "E", "E/sub") == once
    assert grouped(tmp_path, "E", "E/sub") == grouped(tmp_path, "E/sub", "E") == grouped(tmp_path, "E")


@pytest.mark.parametrize("names", [("x.txt",), ("x.txt", "y.txt"), ("w/x.txt", "y.txt", "z.txt")])
def test_the_same_bytes_by_the_same_name_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    write(tmp_path / "A", *names)
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    said = set()
    for order in (["A", "B"], ["B", "A"]):
        for hashes in (True, False):
            with pytest.raises(UsageError, match="named twice") as error:
                found(tmp_path, *order, hashes=hashes)
            said.add(str(error.value))
    assert len(said) == 1


def test_without_hashes_names_are_the_same_and_few_bytes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "C/x.txt", "D/x.txt", "D/y.txt", "E/y.txt", "E/z.txt")
    write(tmp_path, "E/y.txt", text="longer than the other of this name")
    names = [each.name for each in found(tmp_path, "C", "D", "E")]
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return str(path)

    monkeypatch.setattr(inputs, "sha256_of", counted)
    assert [each.name for each in found(tmp_path, "C", "D", "E", hashes=False)] == names
    assert hashed == ["x.txt", "x.txt"], "of one name and one size"


def test_other_files_with_one_name_are_documents_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, "C/x.txt", "D/x.txt")
    outs = []
    for number, order in enumerate((["C", "D"], ["D", "C"])):
        out = tmp_path / f"out{number}"
        run(make(PLAIN, [tmp_path / spec for spec in order], out, lambda *_: None), 1)
        outs.append([(each.id, each.text) for each in Corpus.open(out).documents()])
    assert outs[0] == outs[1]
    assert [name for name, _ in outs[0]] == ["C/x.txt#0", "D/x.txt#0"]
    assert [text.split()[2] for _, text in outs[0]] == ["C/x.txt", "D/x.txt"]


def test_a_folder_is_a_group_whatever_its_last_name_is(tmp_path: Path) -> None:
    same = "the very same words stand in both of the crawls\n"
    write(tmp_path, "2023/warc/a.txt", "2024/warc/b.txt", text=same)
    both = {"2023/warc": "2023/warc", "2024/warc": "2024/warc"}
    assert grouped(tmp_path, "2023", "2024") == grouped(tmp_path, "2024", "2023") == both
    assert grouped(tmp_path, "2023/warc/a.txt", "2024/warc") == both
    assert grouped(tmp_path, "2023") == {"2023/warc": "warc"}
    assert grouped(tmp_path, "2023/warc") == {"2023/warc": "."}
    assert grouped(tmp_path, ".") == both
    recipe = resolve("plain", {"dedup.group": "folder"}).config
    plan = make(recipe, [tmp_path / "2023", tmp_path / "2024"], tmp_path / "out", lambda *_: None)
    assert list(plan.groups) == ["2023/warc", "2024/warc"]


@BYTES_AS_NAMES
def test_a_name_that_is_no_utf8_shows_its_bytes(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "bad") + b"\xfe"
    os.mkdir(folder)
    Path(os.fsdecode(folder + b"/\xc3\xa4\xff.txt")).write_text("some words in a file\n")
    spec = os.fsdecode(folder)
    assert [(each.name, each.group) for each in found(Path(spec), ".")] == [("ä\\xff.txt", ".")]
    (each,) = found(tmp_path, ".")
    assert (each.name, each.group) == ("bad\\xfe/ä\\xff.txt", "bad\\xfe")
    run(make(PLAIN, [spec], tmp_path / "out", lambda *_: None), 1)
    (kept,) = Corpus.open(tmp_path / "out").documents()
    assert (kept.id, kept.source) == ("ä\\xff.txt#0", "ä\\xff.txt")


@BYTES_AS_NAMES
def test_two_names_that_are_shown_alike_are_refused(tmp_path: Path) -> None:
    for number, name in enumerate((b"a\xff.txt", rb"a\xff.txt")):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(f"words {number}\n")
    with pytest.raises(UsageError, match="no text can tell apart"):
        found(tmp_path, ".")


def test_units_have_names_of_their_own(tmp_path: Path) -> None:
    write(tmp_path, "C/x.txt", "D/x.txt", "C/y.txt", "D/y.txt")
    files = found(tmp_path, "C", "D")
    made = units(files, stretches)
    assert len(made) == len({unit.name for unit in made}) == 2
    ids = [page.id for unit in made for page in read(unit, files, PLAIN)]
    assert ids == ["C/x.txt#0", "C/y.txt#0", "D/x.txt#0", "D/y.txt#0"]
