"""Files from the hub: at one commit, each compared with its checksum. The hub itself is a stand-in."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from primer.errors import DataError, SurroundingsError
from primer.exchange import hub

COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"


class Cache:
    """What huggingface_hub leaves in its cache: blobs that are called by their checksums, and links to them."""

    def __init__(self, root: Path) -> None:
        self.blobs, self.snapshot = root / "blobs", root / "snapshots" / COMMIT
        self.asked: dict[str, Any] = {}
        self.blobs.mkdir(parents=True)
        self.snapshot.mkdir(parents=True)

    def add(self, name: str, content: bytes, checksum: str) -> None:
        (self.blobs / checksum).write_bytes(content)
        (self.snapshot / name).symlink_to(self.blobs / checksum)

    def download(self, name: str, **words: Any) -> str:
        self.asked = {"name": name, **words}
        return str(self.snapshot)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    found = Cache(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.download)
    return found


def test_what_was_fetched_is_checked(cache: Cache) -> None:
    cache.add("config.json", b"hello\n", "ce013625030ba8dba906f756967f9e9ca394464a")  # git hash-object
    cache.add("model.safetensors", b"weights", hashlib.sha256(b"weights").hexdigest())
    cache.add("README.md", b"no business of ours", "0" * 40)
    found = hub.fetch("owner/model", "main")
    assert found == hub.Snapshot(cache.snapshot, "owner/model", COMMIT)
    assert (cache.asked["name"], cache.asked["revision"]) == ("owner/model", "main")
    assert not [
        pattern for pattern in cache.asked["allow_patterns"] if pattern.endswith((".bin", ".py", "*"))
    ]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "model-00002-of-00002.safetensors"])
@pytest.mark.parametrize("digits", [40, 64])
def test_a_file_that_is_another_one_is_refused(cache: Cache, name: str, digits: int) -> None:
    cache.add(name, b"changed", "a" * digits)
    with pytest.raises(DataError, match="not the file that the hub has") as caught:
        hub.fetch("owner/model")
    assert str(cache.blobs / ("a" * digits)) == caught.value.where


def test_a_file_without_a_checksum_is_not_believed(cache: Cache) -> None:
    (cache.snapshot / "config.json").write_text("{}")  # as where no links can be made
    with pytest.raises(SurroundingsError, match="without a checksum") as caught:
        hub.fetch("owner/model")
    assert f"primer import '{cache.snapshot}'" in str(caught.value.hint)


def unanswered(kind: type[Exception]) -> Exception:
    """An error of the hub's without the answer that it came with, which differs from version to version."""
    error = kind.__new__(kind)
    Exception.__init__(error, "404")
    return error


RESPONSES: list[tuple[Exception, str]] = [
    (
        errors.LocalEntryNotFoundError("Got: ConnectError: offline\nmore"),
        "could not be fetched (Got: ConnectError",
    ),
    (errors.OfflineModeIsEnabled("offline mode"), "could not be fetched (offline mode)"),
    (TimeoutError(), "could not be fetched (TimeoutError)"),
    (OSError(28, "No space left on device"), "No space left"),
    (unanswered(errors.RepositoryNotFoundError), "shows no model 'owner/model'"),
    (unanswered(errors.GatedRepoError), "shows no model 'owner/model'"),
    (errors.HFValidationError("bad"), "shows no model 'owner/model'"),
]


@pytest.mark.parametrize(("response", "cause"), RESPONSES)
def test_what_goes_wrong_on_the_way_says_what_to_do(
    response: Exception, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise response

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(SurroundingsError) as caught:
        hub.fetch("owner/model")
    assert cause in caught.value.cause
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert "folder" in caught.value.hint


def test_a_revision_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise unanswered(errors.RevisionNotFoundError)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(SurroundingsError, match="owner/model has no revision 'v2'") as caught:
        hub.fetch("owner/model", "v2")
    assert caught.value.hint == "--revision=main"


def test_without_the_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SurroundingsError, match="huggingface_hub is not installed") as caught:
        hub.fetch("owner/model")
    assert caught.value.hint == 'python -m pip install "gpt-primer[hub]"'


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("gpt2", "openai-community/gpt2"),
        ("gpt2-xl", "openai-community/gpt2-xl"),
        ("distilbert/distilgpt2", "distilbert/distilgpt2"),
        ("my-model", None),
        ("a/b/c", None),
        ("../model", None),
        ("./model", None),
        ("/model", None),
        ("model/", None),
        ("https://example.org/x", None),
        ("", None),
        ("a b/c", None),
    ],
)
def test_which_words_are_names_on_the_hub(word: str, name: str | None) -> None:
    assert hub.hub_name(word) == name
