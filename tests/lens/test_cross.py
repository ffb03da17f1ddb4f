"""The attention of a translation is what the decoder computes when it chooses each token."""

import torch
from torch import Tensor

from primer.lens.cross import cross_attention
from primer.models.config import TransformerConfig
from primer.models.transformer import Transformer

END = 19


def test_each_row_is_where_the_decoder_looked_when_it_chose_that_token() -> None:
    """Against token-by-token decoding with a cache, where a listener hears one row at a time."""
    torch.manual_seed(0)
    config = TransformerConfig(vocab_size=20, d_model=16, n_heads=4, d_ff=24, n_layers=2, dropout=0.3)
    model = Transformer(config).double()
    source, target = torch.tensor([3, 1, 4, 1, 5, END]), torch.tensor([9, 2, 6, END])
    found = cross_attention(model, source, target, END)
    assert found.shape == (2, 4, 4, 6)
    cut = cross_attention(
        model, source, target[:-1], END
    )  # of a translation that has no end: the same, but for that
    torch.testing.assert_close(cut, found[:, :, :-1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 4, 4, dtype=torch.float64))
    assert model.training  # it was put back

    heard: list[list[Tensor]] = [[], []]
    for number, layer in enumerate(model.decoder):

        def listener(value: Tensor, number: int = number) -> Tensor:
            heard[number].append(value[0, :, 0])
            return value

        layer.cross_attention.pattern.listener = listener
    model.eval()
    cache = model.start(source[None], 1, 4)
    for token in (END, 9, 2, 6):
        model.step(torch.tensor([[token]]), cache)
    rows = torch.stack([torch.stack(layer, dim=1) for layer in heard])  # (L, H, T, S)
    torch.testing.assert_close(found, rows.detach(), rtol=1e-9, atol=1e-9)
