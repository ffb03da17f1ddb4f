import subprocess
import sys

import numpy as np
import pytest

from bpe_setup import small
from primer import tokens
from primer.errors import DataError, UsageError
from primer.tokens import ByteTokenizer, CharTokenizer, Tokenizer
from primer.tokens.tokenizer import dtype_for

TEXT = "the lowest of the\n 'newest' ones, naïve"
KINDS = [
    pytest.param(CharTokenizer.train([TEXT]), id="char"),
    pytest.param(ByteTokenizer(), id="byte"),
    pytest.param(small("gpt2"), id="bpe"),
    pytest.param(small("gpt4", "readable"), id="bpe-readable"),
]


@pytest.mark.parametrize("tokenizer", KINDS)
def test_all_keep_the_protocol(tokenizer):
    assert isinstance(tokenizer, Tokenizer)
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert ids.dtype == tokenizer.dtype == dtype_for(tokenizer.vocab_size)
    assert b"".join(tokenizer.token_bytes(token) for token in ids) == TEXT.encode()
    assert tokenizer.byte_lengths.shape == (tokenizer.vocab_size,)
    assert tokenizer.byte_lengths[ids].sum() == len(TEXT.encode())
    special = set(tokenizer.special_tokens.values())
    assert {n for n, length in enumerate(tokenizer.byte_lengths) if not length} == special
    assert tokenizer.encode("").tolist() == []
    assert tokenizer.encode("").dtype == tokenizer.dtype
    assert tokens.from_json(tokenizer.to_json()).fingerprint == tokenizer.fingerprint
    with pytest.raises(DataError):
        tokenizer.decode([tokenizer.vocab_size])


@pytest.mark.parametrize("size", [1, 255, 256, 257, 65536, 65537, 2**32])
def test_the_type_holds_the_largest_id_and_none_smaller_does(size):
    dtype = dtype_for(size)
    assert np.iinfo(dtype).max >= size - 1
    if dtype.itemsize > 1:
        assert np.iinfo(f"u{dtype.itemsize // 2}").max < size - 1


def test_a_vocabulary_beyond_four_bytes_is_refused():
    with pytest.raises(UsageError, match="too large"):
        dtype_for(2**32 + 1)


def test_the_text_side_needs_no_torch():
    code = "import sys, primer.tokens, primer.corpus, primer.data.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
