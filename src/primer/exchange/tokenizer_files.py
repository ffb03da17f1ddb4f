"""The tokenizer's files in a Hugging Face folder, of whichever kind it is."""

from __future__ import annotations

import json
from pathlib import Path

from primer.exchange import tokenizers as byte_pairs
from primer.exchange.characters import from_tokenizer_json, tokenizer_json
from primer.exchange.files import read_json
from primer.tokens.bpe import BPETokenizer
from primer.tokens.char import ByteTokenizer, CharTokenizer
from primer.tokens.tokenizer import Tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path, context_length: int) -> None:
    """Write what transformers' AutoTokenizer reads as a tokenizer with the same ids."""
    if isinstance(tokenizer, BPETokenizer):
        byte_pairs.write_tokenizer(tokenizer, folder, context_length)
        return
    assert isinstance(tokenizer, CharTokenizer | ByteTokenizer), "a tokenizer of another kind"
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
    return simple or byte_pairs.read_tokenizer(folder)
