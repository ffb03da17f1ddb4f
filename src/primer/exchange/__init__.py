"""Other programs' formats of models and tokenizers, read and written."""

from typing import Literal

Format = Literal["huggingface"]
"""What a run can be written as. No torch here: help must answer at once."""
