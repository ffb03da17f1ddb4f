"""The tokenizer's files in a Hugging Face folder, of whichever kind it is."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from primer.exchange.characters import from_tokenizer_json, tokenizer_json
from primer.exchange.tensors import read_json
from primer.tokens.char import ByteTokenizer, CharTokenizer
from primer.tokens.tokenizer import Tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path, context_length: int) -> None:
    """Write what transformers' AutoTokenizer reads as a tokenizer with the same ids."""
    if not isinstance(tokenizer, CharTokenizer | ByteTokenizer):
        byte_pairs().write_tokenizer(tokenizer, folder)
        return
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "clean_up_tokenization_spaces": False,
    }
    for name, values in (
        ("tokenizer.json", tokenizer_json(tokenizer)),
        ("tokenizer_config.json", about),
    ):
        text = json.dumps(values, ensure_ascii=False, indent=2)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in a folder. Raises DataError where there is none, or one that this program cannot be."""
    file = folder / "tokenizer.json"
    simple = from_tokenizer_json(read_json(file)) if file.is_file() else None
    return simple or byte_pairs().read_tokenizer(folder)


def byte_pairs() -> Any:
    """The module that knows byte-pair encodings' files."""
    return importlib.import_module("primer.exchange.tokenizers")
