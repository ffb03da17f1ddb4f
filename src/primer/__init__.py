"""GPT, attention and coding language models from scratch."""

__version__ = "0.1.0"
