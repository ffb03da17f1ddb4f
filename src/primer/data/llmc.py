"""Shards in the layout of llm.c (and of modded-nanogpt and build-nanogpt's descendants), for their trainers.

Each file: 256 little-endian int32 (magic, version, count, zeros), then the ids as uint16; `layout.py` reads them.
Source: llm.c, dev/data/data_common.py.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from primer.assets import whole_folder
from primer.data.layout import GPT2, WORDS
from primer.data.manifest import Split
from primer.data.shards import ShardDirectory
from primer.errors import UsageError

FILE_TOKENS = 100_000_000
"""As in llm.c's files of FineWeb."""
BLOCK = 1 << 22
NAMES: dict[Split, str] = {"train": "train", "validation": "val"}


def write_llmc(shards: ShardDirectory, out: Path, file_tokens: int = FILE_TOKENS) -> list[Path]:
    """Write train_000000.bin …, val_000000.bin … into the new folder `out`, and return them.

    UsageError where something is there, or where ids do not fit 16 bits.
    """
    if shards.tokenizer.vocab_size > 1 << 16:
        raise UsageError(
            f"llm.c's ids have 16 bits, and this vocabulary has {shards.tokenizer.vocab_size:,}",
            str(shards.path),
            "a smaller vocabulary",
        )
    names: list[str] = []
    with whole_folder(out) as folder:
        for split, name in NAMES.items():
            tokens = shards.tokens(split)
            for number, start in enumerate(range(0, len(tokens), file_tokens)):
                stop = min(start + file_tokens, len(tokens))
                names.append(f"{name}_{number:06d}.bin")
                with (folder / names[-1]).open("xb") as file:
                    file.write(struct.pack("<3i", *GPT2, stop - start).ljust(4 * WORDS, b"\0"))
                    for begin in range(start, stop, BLOCK):
                        file.write(tokens[begin : min(begin + BLOCK, stop)].astype(np.dtype("<u2")).tobytes())
    return [out / name for name in names]
