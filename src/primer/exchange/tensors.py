"""The safetensors files of a folder as one table of tensors, each read only when it is asked for.

One file (model.safetensors), or several with an index beside them (model.safetensors.index.json). A pickle is never
opened: to open one is to run what is in it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from primer.assets import reading, sha256_of
from primer.errors import DataError
from primer.exchange.files import read_json

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
COMPLETE = "another copy of the folder: this file is damaged or incomplete"
CONVERT = (
    "transformers.AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW), which writes safetensors"
)


@dataclass(frozen=True)
class Stored:
    """A tensor in a file."""

    file: Path
    dtype: str
    """As safetensors spells it: F32, F16, BF16 …"""
    shape: tuple[int, ...]
    read: Callable[[], Tensor]
    """A view of the file: copy it before the file is closed."""


@contextmanager
def opened(folder: Path) -> Iterator[dict[str, Stored]]:
    """Every tensor of a folder's weight files by its name. DataError for no, damaged, or contradicting files."""
    with ExitStack() as stack:
        found: dict[str, Stored] = {}
        for file, expected in weight_files(folder).items():
            tensors = stack.enter_context(_open(file))
            if expected is not None and (other := sorted(tensors.keys() ^ expected)):
                raise DataError(f"{other[0]} is not where {INDEX} says", str(file), COMPLETE)
            found |= tensors
        yield found


def weight_files(folder: Path) -> dict[Path, set[str] | None]:
    """The files with the weights, and the tensors that the index promises of each (None: there is no index)."""
    if (folder / WHOLE).is_file():
        return {folder / WHOLE: None}
    if not (folder / INDEX).is_file():
        raise _without_weights(folder)
    promised: dict[Path, set[str] | None] = {}
    where = str(folder / INDEX)
    table = read_json(folder / INDEX).get("weight_map")
    if not (isinstance(table, dict) and table and all(isinstance(file, str) for file in table.values())):
        raise DataError("the index has no weight_map of names to files", where, COMPLETE)
    for name, file in table.items():
        if Path(file).name != file or "\\" in file or "\0" in file or not file.endswith(".safetensors"):
            raise DataError(f"the index leads out of the folder, to {file!r}", where, COMPLETE)
        names = promised.setdefault(folder / file, set())
        assert names is not None
        names.add(name)
    return promised


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each weight file by its name: what these very weights are recognised by."""
    return {file.name: sha256_of(file) for file in weight_files(folder)}


@contextmanager
def _open(file: Path) -> Iterator[dict[str, Stored]]:
    if not file.is_file():  # nor a pipe or a device, which would never end
        raise DataError("there is no such file", str(file), COMPLETE)
    with reading(file) as stream:
        start = stream.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise DataError("this file only says where the weights are", str(file), "git lfs pull")
    try:
        handle: Any = safetensors.safe_open(str(file), framework="pt")
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise DataError(f"this is no safetensors file: {error}", str(file), COMPLETE) from error
    with handle as tensors:
        yield {name: _stored(tensors, file, name) for name in tensors.keys()}  # noqa: SIM118


def _stored(handle: Any, file: Path, name: str) -> Stored:
    view = handle.get_slice(name)
    return Stored(file, view.get_dtype(), tuple(view.get_shape()), lambda: handle.get_tensor(name))


def _without_weights(folder: Path) -> DataError:
    if pickles := sorted(folder.glob("pytorch_model*.bin")):
        return DataError(
            "the weights here are a pickle, and to open one is to run what is in it",
            where=str(pickles[0]),
            hint=CONVERT,
        )
    return DataError(f"no {WHOLE} is here", str(folder), "a folder that transformers' save_pretrained wrote")
