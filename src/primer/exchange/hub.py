"""A model's files from the Hugging Face hub, at one commit and checked. Naming a model there is asking for it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from primer.assets import reading, sha256_of
from primer.errors import DataError, SurroundingsError, missing_extra
from primer.models.config import PRESETS

FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""What is fetched, where it is there: nothing of it is executed."""

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class Snapshot:
    """A model's files on this machine, and which ones they are."""

    folder: Path
    name: str
    commit: str


def hub_name(word: str) -> str | None:
    """The model on the hub that a word names: `owner/name`, or one of GPT-2's sizes; None for any other word."""
    if word in PRESETS:
        return f"openai-community/{word}"
    return word if NAME.fullmatch(word) else None


def fetch(name: str, revision: str | None = None) -> Snapshot:
    """The files of a model, from the hub or from its cache here, each with the checksum that the hub gave it.

    revision: a branch, a tag or a commit; None: the newest. Raises SurroundingsError where the hub cannot be reached
    or has no such model, DataError for a file that is not the one that it should be.
    """
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError:
        raise missing_extra("huggingface_hub", "hub") from None
    by_hand = f"put config.json, model.safetensors, vocab.json and merges.txt of {name} into a folder, and name that"
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(FILES)))
    except errors.RevisionNotFoundError as error:
        raise SurroundingsError(f"{name} has no revision {revision!r}", hint="--revision=main") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise SurroundingsError(
            f"the Hugging Face hub shows no model {name!r}", hint="its owner/name, or a folder of your own"
        ) from error
    except (
        Exception
    ) as error:  # offline, refused, timed out, the disk full: each in the words of some library
        raise SurroundingsError(
            f"{name} could not be fetched ({_first_line(error)})", hint=by_hand
        ) from error
    for pattern in FILES:
        for file in sorted(folder.glob(pattern)):
            check(file)
    return Snapshot(folder, name, folder.name)


def check(file: Path) -> None:
    """Compare a file of the hub's cache with its checksum, by which the cache calls what it links to.

    That is the SHA-256 of a large file, and git's hash of a small one. DataError where it differs, SurroundingsError
    where the cache could make no links, and so keeps no checksums.
    """
    wanted = file.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", wanted):
        found = sha256_of(file)
    elif re.fullmatch(r"[0-9a-f]{40}", wanted):
        with reading(file) as stream:
            content = stream.read()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    else:
        raise SurroundingsError(
            "this file came without a checksum, since no links can be made here",
            where=str(file),
            hint=f"compare it with the hub's, and then: primer import '{file.parent}'",
        )
    if found != wanted:
        raise DataError(
            "this is not the file that the hub has", str(file.resolve()), "delete it and try again"
        )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]
