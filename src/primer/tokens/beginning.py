"""What stands before a text's first token."""

from __future__ import annotations

import numpy as np

from primer.errors import DataError
from primer.tokens.tokenizer import END_OF_TEXT, Ids, Tokenizer


def beginning(tokenizer: Tokenizer) -> Ids:
    """The ids after which a text begins: the end-of-text token, else a new line, else the first token there is.

    The end-of-text token is what stands before every document in training; a tokenizer without one has seen
    documents begin after a blank line.
    """
    end = tokenizer.special_tokens.get(END_OF_TEXT)
    if end is not None:
        return np.array([end], dtype=np.int64)
    try:
        ids = tokenizer.encode("\n")
    except DataError:
        ids = np.empty(0, dtype=np.int64)
    return ids if len(ids) else np.zeros(1, dtype=np.int64)
