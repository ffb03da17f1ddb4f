"""Other programs' formats of models and tokenizers, read and written."""
