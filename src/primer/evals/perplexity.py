"""How well a model predicts a text: loss, perplexity, bits per byte."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from primer.data.batches import Batch
from primer.models.ids import check_ids
from primer.nn.mode import reading


@dataclass(frozen=True)
class Score:
    """Over all targets of a text."""

    loss: float
    """Mean −log p of a token, in nats."""
    perplexity: float
    """e^loss: as unsure as a fair choice among so many tokens."""
    bits_per_byte: float
    """Bits that a coder with this model needs for one byte of the text: comparable between tokenizers."""
    tokens: int
    """How many targets were scored."""


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and without gradients; the model's modes are put back afterwards."""
    with reading(model), torch.inference_mode():
        yield


def score(
    model: nn.Module,
    batches: Iterable[Batch],
    byte_lengths: Int[Tensor, " V"],
    *,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
    progress: Callable[[int], None] = lambda tokens: None,
) -> Score:
    """Score every target in `batches` once.

    byte_lengths: the UTF-8 bytes that each token stands for; none of a special token. It is predicted like any other,
    and its nats count: a coder has to code where a document ends, too.
    total: adds the three sums up over several processes that each score a part of the text.
    progress: called with the targets scored so far, here.
    """
    device = next(model.parameters()).device
    sums = torch.zeros(3, dtype=torch.float64)  # nats, tokens, bytes
    with evaluating(model):
        for batch in batches:
            _check(batch, len(byte_lengths))
            logits = model(batch.inputs.to(device)).float()
            nats = F.cross_entropy(logits.flatten(0, 1), batch.targets.to(device).flatten(), reduction="sum")
            bytes_read = byte_lengths[batch.targets].sum()
            sums += torch.tensor([nats.item(), batch.targets.numel(), bytes_read.item()], dtype=torch.float64)
            progress(int(sums[1]))
    nats_sum, tokens, bytes_sum = total(sums.to(device if device.type == "cuda" else "cpu")).tolist()
    loss = nats_sum / max(tokens, 1)
    return Score(
        loss=loss,
        perplexity=math.exp(min(loss, 700.0)),
        bits_per_byte=nats_sum / math.log(2) / max(bytes_sum, 1),
        tokens=int(tokens),
    )


def _check(batch: Batch, vocab_size: int) -> None:
    """UsageError for an id outside the vocabulary, with its place in the text, before a device reads it."""
    rows = torch.cat([batch.inputs[:, :1], batch.targets], dim=1)
    for row, start in zip(rows, batch.starts.tolist(), strict=True):
        check_ids(row, vocab_size, f"the text from token {start} on")
