import subprocess
import sys

import numpy as np
import pytest

from primer.errors import UsageError
from primer.tokens import ByteTokenizer, CharTokenizer, Tokenizer
from primer.tokens.tokenizer import dtype_for


def test_both_keep_the_protocol():
    assert isinstance(CharTokenizer("ab"), Tokenizer)
    assert isinstance(ByteTokenizer(), Tokenizer)


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
