"""GPT, attention and coding language models from scratch.

import primer

run = primer.train("shakespeare")
print(primer.load(run).generate("ROMEO:"))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from primer.models.config import GPTConfig as GPTConfig
    from primer.models.gpt import GPT as GPT
    from primer.recipes.imported import import_model as import_model
    from primer.recipes.loaded import Run as Run
    from primer.recipes.run import load as load
    from primer.recipes.run import resume as resume
    from primer.recipes.run import train as train

__version__ = "0.1.0"

_HOMES = {
    "GPT": "primer.models.gpt",
    "GPTConfig": "primer.models.config",
    "Run": "primer.recipes.loaded",
    "import_model": "primer.recipes.imported",
    "load": "primer.recipes.run",
    "resume": "primer.recipes.run",
    "train": "primer.recipes.run",
}

__all__ = ["GPT", "GPTConfig", "Run", "__version__", "import_model", "load", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are first used, so that `import primer` costs nothing."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'primer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
