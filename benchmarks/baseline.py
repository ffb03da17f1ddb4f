"""The lecture's script as a baseline: its classes, unchanged, without the training that importing it
starts.
"""

import ast
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

SIZES = {"vocab_size": 65, "block_size": 256, "n_embd": 384, "dropout": 0.2, "device": "cpu"}


def script() -> Path:
    """Where $PRIMER_REFERENCE says that the script is; ends the program where it is not."""
    path = Path(os.environ.get("PRIMER_REFERENCE", ".")) / "lecture_script.py"
    if not path.is_file():
        sys.exit(f"{path} is not there: set PRIMER_REFERENCE to the folder of lecture_script.py")
    return path


def classes(**sizes: Any) -> Any:
    """Head, Block, GPTLanguageModel, … in a world where the script's global names are `SIZES` or `sizes`."""
    tree = ast.parse(script().read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    world = {"torch": torch, "nn": nn, "F": F, "__name__": "lecture_script", **SIZES, **sizes}
    exec(compile(tree, str(script()), "exec"), world)
    return SimpleNamespace(**world)
