"""Hashed n-grams: a direct look at the last few tokens, by table.

For each order n the last n tokens are hashed into one row of a table, and that row is added to the token's
embedding. Rows are shared by whatever hashes to them (Svenstrup et al. 2017; fastText, Bojanowski et al. 2017),
so the table's size is a choice. The rule for cached decoding: the cache keeps the last n − 1 tokens, because a
row depends on them and not on anything that keys and values could tell.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

MULTIPLIER = 1_000_003
"""An odd prime: multiplying by it and adding the next token mixes the ids well before the modulus."""


def ngram_ids(tokens: Int[Tensor, "B T"], order: int, rows: int) -> Int[Tensor, "B T"]:
    """The row of the n-gram that ends at each position; before the text begins stands token −1.

    >>> ngram_ids(torch.tensor([[5, 5, 5]]), order=2, rows=1000)[0, 1:].unique().numel()
    1
    """
    mixed = torch.full_like(tokens, order)
    for back in range(order - 1, -1, -1):
        shifted = nn.functional.pad(tokens, (back, 0), value=-1)[:, : tokens.shape[1]]
        mixed = (mixed * MULTIPLIER + shifted + 2) & 0x7FFFFFFFFFFF
        mixed = mixed ^ (mixed >> 17)
    return mixed % rows


class HashedNGrams(nn.Module):
    """The sum of one embedding for each order, (B, T) ids → (B, T, C)."""

    def __init__(self, orders: tuple[int, ...], rows: int, d_model: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.orders, self.rows, self.dropout = orders, rows, dropout
        self.tables = nn.ModuleList(nn.Embedding(rows, d_model) for _ in orders)

    @property
    def memory(self) -> int:
        """How many tokens before the first one a row may depend on."""
        return max(self.orders) - 1

    def forward(
        self, tokens: Int[Tensor, "B T"], before: Int[Tensor, "B n"] | None = None
    ) -> Float[Tensor, "B T C"]:
        """`before`: the tokens that stand before these, when they come from a cache."""
        T = tokens.shape[1]
        context = tokens if before is None else torch.cat([before, tokens], dim=1)
        total = None
        for order, table in zip(self.orders, self.tables, strict=True):
            found = table(ngram_ids(context, order, self.rows)[:, -T:])
            if self.training and self.dropout:
                kept = torch.rand(found.shape[:2], device=found.device) >= self.dropout
                found = found * (kept.unsqueeze(-1) / (1 - self.dropout))
            total = found if total is None else total + found
        assert total is not None, "no orders"
        return total
