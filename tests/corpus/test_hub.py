"""Corpora of the Hub: which files are asked for, that they are checked, and what one is told without a network."""

import dataclasses
import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from primer.corpus import open_source
from primer.corpus.hub import DATASETS, fetch
from primer.errors import DataError, SurroundingsError


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A Hub of fourteen files of one document each, in a folder."""
    asked: list[str] = []
    files = {}
    for number in range(14):
        path = tmp_path / f"{number:03}_00000.parquet"
        pq.write_table(pa.table({"text": [f"document {number}"]}), path)
        content = path.read_bytes()
        lfs = SimpleNamespace(sha256=hashlib.sha256(content).hexdigest())
        name = f"sample/10BT/{path.name}"
        files[name] = SimpleNamespace(path=name, size=len(content), lfs=lfs)

    class HfApi:
        def dataset_info(self, repository: str) -> Any:
            return SimpleNamespace(sha="c0ffee")

        def list_repo_tree(self, repository: str, folder: str, *, revision: str, **more: Any) -> list[Any]:
            assert (repository, folder) == ("HuggingFaceFW/fineweb-edu", "sample/10BT")
            assert revision == "c0ffee"
            return [
                SimpleNamespace(path="sample/10BT/README.md", size=1, lfs=None),
                *reversed(files.values()),
            ]

    def download(repository: str, path: str, *, revision: str, **more: Any) -> str:
        assert revision == "c0ffee"
        asked.append(path)
        return str(tmp_path / Path(path).name)

    fake = SimpleNamespace(HfApi=HfApi, hf_hub_download=download, asked=asked, files=files)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake


def test_the_list_is_asked_for_once(
    hub: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was prepared from can be read again without a network, and at the commit that it was."""
    found = fetch("fineweb-edu-10B", 10**9)
    api = hub.HfApi
    monkeypatch.setattr(hub, "HfApi", None)
    assert fetch("fineweb-edu-10B", 10**9) == found
    assert len(fetch("fineweb-edu-10B")) == 14
    kept = tmp_path / "cache" / "primer" / "hub" / "fineweb-edu-10B.json"
    kept.write_text(kept.read_text().replace("c0ffee", "c0ffef"))
    with pytest.raises(SurroundingsError):
        fetch("fineweb-edu-10B")
    monkeypatch.setattr(hub, "HfApi", api)
    assert fetch("fineweb-edu-10B", 10**9) == found


@pytest.mark.parametrize(("limit", "files"), [(0, 14), (1, 1), (600_000_000, 1), (10**9, 2), (10**11, 14)])
def test_as_many_files_as_the_limit_needs(hub: SimpleNamespace, limit: int, files: int) -> None:
    found = fetch("fineweb-edu-10B", limit)
    assert [name for name, _ in found] == [f"{number:03}_00000.parquet" for number in range(files)]
    assert len(hub.asked) == files


def test_it_is_a_source_like_any_other(hub: SimpleNamespace) -> None:
    source = open_source("fineweb-edu-10B", limit_tokens=10**9)
    assert [document.text for document in source.documents()] == ["document 0", "document 1"]
    assert "ODC-By" in source.licence
    assert "fineweb-edu" in source.address


def test_a_file_that_is_not_the_listed_one_is_refused(hub: SimpleNamespace) -> None:
    hub.files["sample/10BT/000_00000.parquet"].lfs.sha256 = "0" * 64
    with pytest.raises(DataError, match="SHA-256"):
        fetch("fineweb-edu-10B", 1)


def test_a_commit_that_is_gone_has_a_way_out(hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("fineweb-edu-10B", 1)

    class RevisionNotFoundError(Exception):
        pass

    def gone(*values: Any, **more: Any) -> Any:
        raise RevisionNotFoundError("404")

    with monkeypatch.context() as patch:
        patch.setattr(hub, "hf_hub_download", gone)
        with pytest.raises(SurroundingsError, match="404") as caught:
            fetch("fineweb-edu-10B", 1)
    assert caught.value.hint is not None
    kept = next(Path(word) for word in caught.value.hint.split() if word.endswith(".json"))
    kept.unlink()
    assert len(fetch("fineweb-edu-10B", 1)) == 1


def test_a_list_of_another_dataset_is_not_used(hub: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("fineweb-edu-10B", 1)
    monkeypatch.setitem(
        DATASETS, "fineweb-edu-10B", dataclasses.replace(DATASETS["fineweb-edu-10B"], folder="x")
    )
    with pytest.raises(AssertionError):
        hub.HfApi().list_repo_tree("HuggingFaceFW/fineweb-edu", "x", revision="c0ffee")
    with pytest.raises(SurroundingsError):
        fetch("fineweb-edu-10B", 1)


@pytest.mark.parametrize("fails", ["HfApi", "hf_hub_download"])
def test_offline_one_is_told_what_to_do(
    hub: SimpleNamespace, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*values: Any, **more: Any) -> Any:
        raise OSError("no route to host\nand more lines")

    monkeypatch.setattr(hub, fails, offline)
    with pytest.raises(SurroundingsError, match="no route to host") as caught:
        fetch("fineweb-edu-10B")
    assert caught.value.exit_code == 3
    assert "primer prepare FOLDER" in str(caught.value.hint)
    assert "\n" not in caught.value.cause


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for name in DATASETS:
        with pytest.raises(SurroundingsError, match="huggingface_hub is not installed"):
            open_source(name)
