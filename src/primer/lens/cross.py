"""Where a decoder looks in the source while it writes: the picture of Bahdanau et al. 2015, figure 3."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from primer.lens.trace import trace
from primer.models.transformer import Transformer


def cross_attention(
    model: Transformer, source: Int[Tensor, " S"], target: Int[Tensor, " T"], begin: int
) -> Float[Tensor, "L H T S"]:
    """For each layer and head, how much every token of the target looked at every token of the source.

    source: with its end token; target: what was written, with its end token if it has one; begin: what the decoder
    begins with (the end token). Row t is where the decoder looked when it chose target token t; it sums to 1.
    """
    inputs = torch.cat([target.new_tensor([begin]), target[:-1]])
    seen = trace(model, (source[None], inputs[None]), ["decoder.*.cross.pattern"])
    return torch.stack([seen[f"decoder.{layer}.cross.pattern"][0] for layer in range(len(model.decoder))])
