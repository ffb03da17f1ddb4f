"""Published corpora by name: Parquet files of a dataset on the Hugging Face Hub, fetched because they were asked for.

Each file is checked against the SHA-256 that the Hub lists for it (a file of that size is kept by its hash there).
Which files: as many as a limit in tokens needs. They stay in the Hub's own cache, so that the text can be read again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from primer.assets import log, sha256_of
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
        raise missing_extra("huggingface_hub", "hub") from None
    try:
        listed = list(
            huggingface_hub.HfApi().list_repo_tree(
                dataset.repository, dataset.folder, repo_type="dataset", expand=False
            )
        )
    except Exception as error:  # offline, a proxy, the Hub itself: its client has a dozen classes for that
        raise _unreachable(name, dataset, error) from error
    files = sorted((each for each in listed if each.path.endswith(".parquet")), key=lambda each: each.path)
    if limit_tokens:
        files = files[: math.ceil(1.1 * limit_tokens / dataset.tokens_a_file)]
    if not files:
        raise DataError("no Parquet files are listed there", dataset.address, "another source")
    return [(Path(each.path).name, _file(huggingface_hub, name, dataset, each)) for each in files]


def _file(hub: Any, name: str, dataset: Dataset, listed: Any) -> Path:
    log.warning("%s: %s, %.1f GB", name, listed.path, listed.size / 1e9)
    try:
        path = Path(hub.hf_hub_download(dataset.repository, listed.path, repo_type="dataset"))
    except Exception as error:
        raise _unreachable(name, dataset, error) from error
    if listed.lfs is not None and sha256_of(path) != listed.lfs.sha256:
        raise DataError("this file is not what the Hub lists: its SHA-256 differs", str(path), "delete it")
    return path


def _unreachable(name: str, dataset: Dataset, error: Exception) -> SurroundingsError:
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return SurroundingsError(
        f"{name} could not be downloaded ({reason[:150]})",
        where=dataset.address,
        hint="download its .parquet files elsewhere, then: primer prepare FOLDER --out=shards",
    )
