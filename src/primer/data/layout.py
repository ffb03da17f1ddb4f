"""The two formats in which others publish tokens: where the ids of a file begin, how many and of what type.

    llm.c's .bin    256 little-endian int32 (magic, version, count, zeros), then uint16 or uint32
    NumPy's .npy    one dimension of uint16, uint32, int32 or int64

Sources: llm.c, dev/data/data_common.py, whose files modded-nanogpt reads too; numpy.lib.format.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from primer.data.manifest import MAGIC as OURS
from primer.errors import DataError

SUFFIXES = (".bin", ".npy")
WORDS = 256
"""int32 in the header of a .bin file."""
GPT2, LLAMA3 = (20240520, 1), (20240801, 7)
"""Magic and version."""
BIN_TYPES: dict[tuple[int, int], np.dtype[Any]] = {GPT2: np.dtype("<u2"), LLAMA3: np.dtype("<u4")}
"""The type of the ids."""
LLAMA3_VOCABULARY = 128_000
"""Ids of Llama 3 at least: those of text, before its special tokens."""
EVALUATION = 20240522
"""The magic of llm.c's multiple-choice questions."""
NPY_TYPES = ("u2", "u4", "i4", "i8")

AGAIN = "fetch this file again"


@dataclass(frozen=True)
class Layout:
    """Ids in a file: `count` of `dtype`, from byte `offset` to the end."""

    offset: int
    count: int
    dtype: np.dtype[Any]


def read_layout(path: Path, file: BufferedReader, vocab_size: int) -> Layout:
    """What the header of an open file says, after it was found to fit the file's size and the vocabulary.

    Raises DataError for a header that is none, for a size that is not the count's, and for ids of a type that
    cannot be this vocabulary's.
    """
    layout = _of_npy(path, file) if path.suffix == ".npy" else _of_bin(path, file, vocab_size)
    size = os.fstat(file.fileno()).st_size
    expected = layout.offset + layout.count * layout.dtype.itemsize
    if size != expected:
        how = "cut short" if size < expected else "too long"
        raise DataError(
            f"{path.name} is {how}: {size} bytes where its {layout.count} tokens ask for {expected}",
            str(path),
            AGAIN,
        )
    if not layout.count:
        raise DataError(f"{path.name} holds no tokens", str(path), AGAIN)
    if layout.dtype.itemsize == 2 and vocab_size > 1 << 16:
        raise DataError(
            f"{path.name} holds ids of 16 bits: not those of a vocabulary of {vocab_size}",
            str(path),
            "the tokenizer that made it",
        )
    return layout


def _of_bin(path: Path, file: BufferedReader, vocab_size: int) -> Layout:
    head = file.read(4 * WORDS)
    if head.startswith(OURS):
        raise DataError(
            f"{path.name} belongs to a shard directory that lost its manifest.json",
            str(path),
            "prepare it again",
        )
    if len(head) < 4 * WORDS:
        raise DataError(f"{path.name} is cut short: {len(head)} bytes are no header", str(path), AGAIN)
    magic, version, count, *rest = (int(word) for word in np.frombuffer(head, "<i4"))
    if magic == EVALUATION:
        raise DataError(
            f"{path.name} holds questions with answers, not a text", str(path), "move it elsewhere"
        )
    if magic not in {known for known, _ in BIN_TYPES}:
        raise DataError(
            f"{path.name} begins with {magic}, which is no magic number of token files",
            str(path),
            "bare ids, as nanoGPT writes them, can be read once np.save has made them a .npy file",
        )
    if (magic, version) not in BIN_TYPES:
        raise DataError(
            f"{path.name} is of version {version}, which is not known here", str(path), "upgrade gpt-primer"
        )
    if count < 0 or any(rest):
        raise DataError(f"{path.name} has a damaged header", str(path), AGAIN)
    if (magic, version) == LLAMA3 and vocab_size < LLAMA3_VOCABULARY:
        raise DataError(
            f"{path.name} holds ids of Llama 3, whose vocabulary is not this one of {vocab_size}",
            str(path),
            "the tokenizer that made it",
        )
    return Layout(4 * WORDS, count, BIN_TYPES[magic, version])


def _of_npy(path: Path, file: BufferedReader) -> Layout:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy's about headers that Python 2 wrote
            version = npy.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"version {version}")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, kind = read(file)
            dtype: np.dtype[Any] = kind
    except Exception as error:  # whatever a header that is none makes NumPy raise
        raise DataError(
            f"{path.name} is no .npy file that can be read: its header is none", str(path), AGAIN
        ) from error
    if dtype.kind + str(dtype.itemsize) not in NPY_TYPES:
        raise DataError(
            f"{path.name} holds {dtype}, which are no token ids", str(path), "uint16, uint32, int32 or int64"
        )
    if len(shape) != 1 or shape[0] < 0:
        raise DataError(f"{path.name} has the shape {shape}, not one dimension", str(path), "np.ravel of it")
    return Layout(file.tell(), int(shape[0]), dtype)
