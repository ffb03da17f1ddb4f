"""Tiny GPT-2s as transformers makes and keeps them, for tests of the exchange. Importable like `setups`."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

SMALL: dict[str, Any] = {
    "vocab_size": 11, "n_positions": 9, "n_embd": 12, "n_layer": 2, "n_head": 3,
    "bos_token_id": None, "eos_token_id": None, "initializer_range": 0.3,
}  # fmt: skip


def theirs(**changes: Any) -> GPT2LMHeadModel:
    """One of random weights, biases and gains among them, so that none of them could be left out unnoticed."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**{**SMALL, **changes})).eval()
    for p in model.parameters():
        if p.ndim == 1:
            torch.nn.init.normal_(p, mean=0.5, std=0.5)
    return model


def same_logits(ours: torch.nn.Module, other: GPT2LMHeadModel, length: int = 9) -> None:
    """Both models give the same logits for random tokens: within rounding, in float32 and in float64."""
    tokens = torch.randint(other.config.vocab_size, (3, length), generator=torch.Generator().manual_seed(1))
    for dtype, allowed in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        with torch.no_grad():
            a, b = ours.to(dtype)(tokens), other.to(dtype)(tokens).logits
        assert b.std() > 0.1, "logits that say nothing would agree whatever the weights are"
        assert (a - b).abs().max() < allowed
        ours.float(), other.float()


class Folder:
    """A Hugging Face folder, to be changed by hand."""

    def __init__(self, path: Path, **changes: Any) -> None:
        self.path = path
        self.model = theirs(**changes)
        self.model.save_pretrained(path)

    @property
    def settings(self) -> dict[str, Any]:
        """config.json."""
        found: dict[str, Any] = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return found

    @property
    def tensors(self) -> dict[str, Tensor]:
        """model.safetensors."""
        return safetensors.torch.load((self.path / "model.safetensors").read_bytes())

    def set(self, **changes: Any) -> None:
        """Change config.json; a value of ... takes the key out."""
        kept = {key: value for key, value in {**self.settings, **changes}.items() if value is not ...}
        (self.path / "config.json").write_text(json.dumps(kept), encoding="utf-8")

    def put(self, tensors: dict[str, Tensor]) -> None:
        """Replace model.safetensors."""
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        safetensors.torch.save_file(whole, self.path / "model.safetensors", metadata={"format": "pt"})
