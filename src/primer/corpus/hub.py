"""Published corpora by name: Parquet files of a dataset on the Hugging Face Hub, fetched because they were asked for.

Each file is checked against the SHA-256 that the Hub lists for it (a file of that size is kept by its hash there).
Which files: as many as a limit in tokens needs. They stay in the Hub's own cache, and the list of them, with the commit
that it is of, in ours: the text can be read again without a network, and stays the same when the dataset is changed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from primer.assets import cache_dir, log, replacing, seal, sha256_of, unseal
from primer.errors import DataError, SurroundingsError, missing_extra


@dataclass(frozen=True)
class Dataset:
    """Where a corpus lies, and about how much each of its files holds."""

    repository: str
    folder: str
    licence: str
    tokens_a_file: float
    """GPT-2's, on the average: 10 billion in so many files."""

    @property
    def address(self) -> str:
        """For people."""
        return f"https://huggingface.co/datasets/{self.repository}/tree/main/{self.folder}"


DATASETS = {
    "fineweb-edu-10B": Dataset("HuggingFaceFW/fineweb-edu", "sample/10BT", "ODC-By 1.0", 10e9 / 14),
    "fineweb-10B": Dataset("HuggingFaceFW/fineweb", "sample/10BT", "ODC-By 1.0", 10e9 / 15),
}
"""Penedo et al. 2024: samples of about ten billion tokens of FineWeb and FineWeb-Edu."""


def fetch(name: str, limit_tokens: int = 0) -> list[tuple[str, Path]]:
    """(name, path) of a corpus's files, downloaded where they are not here. SurroundingsError where that cannot be."""
    dataset = DATASETS[name]
    try:
        import huggingface_hub
    except ImportError:
        missing = missing_extra("huggingface_hub", "hub")
        missing.hint = f"{missing.hint}, or name a text of your own"
        raise missing from None
    listing = _kept(name) or _asked_for(huggingface_hub, name, dataset)
    files = listing.files
    if limit_tokens:
        files = files[: math.ceil(1.1 * limit_tokens / dataset.tokens_a_file)]
    return [(Path(each.path).name, _file(huggingface_hub, name, listing, each)) for each in files]


@dataclass(frozen=True)
class Listed:
    """One file as the Hub lists it."""

    path: str
    size: int
    sha256: str | None
    """None: it is too small for the Hub to keep it by its hash."""


@dataclass(frozen=True)
class Listing:
    """The files of a corpus at one commit of its repository."""

    repository: str
    folder: str
    commit: str
    files: list[Listed]


def _asked_for(hub: Any, name: str, dataset: Dataset) -> Listing:
    """What the Hub lists now, kept for the next time."""
    try:
        api = hub.HfApi()
        commit = api.dataset_info(dataset.repository).sha
        tree = list(
            api.list_repo_tree(
                dataset.repository, dataset.folder, repo_type="dataset", expand=False, revision=commit
            )
        )
    except Exception as error:  # offline, a proxy, the Hub itself: its client has a dozen classes for that
        raise _unreachable(name, dataset, error) from error
    found = [
        Listed(each.path, each.size, each.lfs.sha256 if each.lfs is not None else None)
        for each in tree
        if each.path.endswith(".parquet")
    ]
    if not found:
        raise DataError("no Parquet files are listed there", dataset.address, "another source")
    files = sorted(found, key=lambda each: each.path)
    listing = Listing(dataset.repository, dataset.folder, commit, files)
    with replacing(_listing_file(name)) as file:
        file.write(seal(asdict(listing)).encode())
    return listing


def _kept(name: str) -> Listing | None:
    """What the Hub listed the first time, if it is of the same dataset."""
    file = _listing_file(name)
    if not file.exists():
        return None
    try:
        fields = unseal(file.read_text(encoding="utf-8"), str(file))
        found = Listing(**{**fields, "files": [Listed(**each) for each in fields["files"]]})
    except (DataError, UnicodeDecodeError, OSError, KeyError, TypeError) as error:
        log.warning("%s; asking the Hub again", error)
        return None
    same = (found.repository, found.folder) == (DATASETS[name].repository, DATASETS[name].folder)
    return found if same else None


def _listing_file(name: str) -> Path:
    return cache_dir() / "hub" / f"{name}.json"


GONE = ("EntryNotFoundError", "RepositoryNotFoundError", "RevisionNotFoundError")
"""Errors of the Hub's client: it was reached, and has not what was listed."""


def _file(hub: Any, name: str, listing: Listing, listed: Listed) -> Path:
    log.warning("%s: %s, %.1f GB", name, listed.path, listed.size / 1e9)
    try:
        path = Path(
            hub.hf_hub_download(listing.repository, listed.path, repo_type="dataset", revision=listing.commit)
        )
    except Exception as error:
        unreachable = _unreachable(name, DATASETS[name], error)
        if type(error).__name__ in GONE:
            unreachable.hint = f"what the Hub has now, once {_listing_file(name)} is deleted"
        raise unreachable from error
    if listed.sha256 is not None and sha256_of(path) != listed.sha256:
        raise DataError("this file is not what the Hub lists: its SHA-256 differs", str(path), "delete it")
    return path


def _unreachable(name: str, dataset: Dataset, error: Exception) -> SurroundingsError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return SurroundingsError(
        f"{name} could not be downloaded ({reason[:150]})",
        where=dataset.address,
        hint="download its .parquet files elsewhere, then: primer prepare FOLDER --out=shards",
    )
