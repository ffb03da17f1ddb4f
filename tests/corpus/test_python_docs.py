import os
import sys

import pytest

from primer.corpus import open_source, python_docs
from primer.errors import SurroundingsError

MODULE = '''"""What this module is for, told at some length."""
import sys
sys.exit("it was imported")

def public(a, b=1, *rest, c: int = 2, **others):
    """Do what the name says, and then some more of it."""

class Thing(Base, metaclass=Meta):
    """A thing that can be held, and put away again.

    Indented like
        code.
    """

    def __init__(self):
        """Do what the name says, and then some more of it."""

    async def later(self, much):
        """Typography: “quoted”, ‘quoted’ – and so on … yes."""

    def _private(self):
        """Nobody outside is meant to read this sentence here."""

    def short(self):
        """Too short."""

    def foreign(self):
        """A docstring with characters such as é that are not plain."""

    def drawn(self):
        """A table follows here, and then it goes on below:

        +---+---+
        | a | b |
        +---+---+

        And this is below it.
        """
'''

EXPECTED = """pack.mod

What this module is for, told at some length.


public(a, b=1, *rest, c: int=2, **others)

Do what the name says, and then some more of it.


class Thing(Base)

A thing that can be held, and put away again.

Indented like
    code.


later(self, much)

Typography: "quoted", 'quoted' - and so on ... yes.


drawn(self)

A table follows here, and then it goes on below:

And this is below it."""


TOPICS = {"if": "The if statement\n****\n", "all": "Before\n\nThe if statement\n****\n"}


@pytest.fixture
def stdlib(tmp_path):
    contents = {
        "pack/__init__.py": "",
        "pack/mod.py": MODULE,
        "zoo.py": '"""A module of its own, with as much to say."""\n' + MODULE.split("sys.exit")[1],
        "broken.py": '"""A docstring in front of what is no Python at all."""\n(',
        "odd.py": '"""A docstring with an odd escape that is warned of: \\d."""',
        "_hidden.py": '"""A private module, whose docstring nobody needs to read."""',
        "test/test_x.py": '"""A test, whose docstring nobody needs to read either."""',
        "site-packages/foreign.py": '"""Foreign code under a licence that nobody has looked at."""',
        "pydoc_data/topics.py": f"topics = {TOPICS!r}",
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def test_topics_and_docstrings_read_as_help_prints_them(stdlib):
    found = {document.id: document.text for document in python_docs.documents(stdlib)}
    assert found == {
        "topic all": "Before\n\nThe if statement\n****",
        "module pack.mod": EXPECTED,
        "module odd": "odd\n\nA docstring with an odd escape that is warned of: \\d.",
        "module zoo": "zoo\n\nA module of its own, with as much to say.",
    }


def test_every_docstring_comes_once(stdlib):
    everything = "\n".join(document.text for document in python_docs.documents(stdlib))
    for sentence in ("What this module is for", "Do what the name says", "The if statement"):
        assert everything.count(sentence) == 1


def test_the_order_is_not_the_machines(stdlib, monkeypatch):
    straight = list(python_docs.documents(stdlib))
    ordinary = os.walk

    def backwards(*args, **kwargs):
        for parent, folders, files in ordinary(*args, **kwargs):
            folders.sort(reverse=True)
            yield parent, folders, sorted(files, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    assert list(python_docs.documents(stdlib)) == straight


def test_it_is_made_once_and_made_again_when_it_is_damaged(stdlib, monkeypatch):
    path = python_docs.build(stdlib)
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert python_docs.build(stdlib).read_bytes() == good
    monkeypatch.setattr(python_docs, "documents", lambda stdlib: pytest.fail("it was made again"))
    assert python_docs.build(stdlib) == path


def test_a_python_without_sources_says_so(tmp_path):
    with pytest.raises(SurroundingsError, match="carries no sources"):
        python_docs.build(tmp_path)


def test_the_real_one_is_a_few_megabytes_of_clean_text():
    modules = set(sys.modules)
    source = open_source("python-docs")
    text = "".join(source.text())
    assert 1_000_000 < len(text) < 5_000_000
    assert 60 < len(set(text)) <= 96
    assert all(letter == "\n" or letter.isprintable() for letter in set(text))
    assert 'The "if" statement' in text
    assert not {
        name for name in set(sys.modules) - modules if name.startswith(("tkinter", "turtle", "antigravity"))
    }
    assert (source.licence, source.address) == ("PSF-2.0", "https://docs.python.org/3/")
