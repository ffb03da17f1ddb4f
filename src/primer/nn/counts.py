"""What a text says about its next token by plain counting, as an input to a model that knows better.

For each context of 1 … K tokens, count what followed it in the training text. Witten & Bell 1991 (method C) turn
the counts into probabilities that fall back on the shorter context:

    p_k(x | last k) = (n_k(x) + d_k · p_{k−1}(x)) / (N_k + d_k)

n_k(x): how often x followed this context; N_k: how often anything did; d_k: how many different tokens did.
Where a context was never seen, p_k = p_{k−1}; p_0 is how frequent each token is.

A model that trains on the text that was counted would learn to trust counts that know the answer. So the text is
cut into folds, and a window of one fold is trained with the counts of the others (deleted estimation, Jelinek &
Mercer 1980); p_0 alone, in which one window weighs nothing, is always that of the whole text. The counts of all folds
serve everything else.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from primer.errors import UsageError
from primer.nn.ngram import ngram_ids

KEYS = 1 << 47
"""Contexts are told apart by a hash of so many values: of a million, two collide once in three hundred texts."""


class CountedNGrams(nn.Module):
    """log p_1 … log p_K of every token at every position: ids (B, T) → (B, T, K, V). Nothing here is learned.

    The counts of order k are sparse: `contexts_k` (R,) sorted keys; `offsets_k` (R + 1,) where a context's entries
    begin; `followers_k` and `counts_k` (E,) what followed and how often. They travel with the weights.
    """

    frequencies: Tensor

    def __init__(self, vocab_size: int, longest: int, folds: int = 10) -> None:
        super().__init__()
        self.vocab_size, self.longest, self.folds = vocab_size, longest, folds
        self.fold_size = 0
        self.register_buffer("frequencies", torch.zeros(vocab_size))
        for k in range(1, longest + 1):
            for name in ("contexts", "offsets", "followers", "counts"):
                self.register_buffer(f"{name}_{k}", torch.zeros(0, dtype=torch.long))
            self.register_buffer(f"fold_counts_{k}", torch.zeros(0, folds), persistent=False)

    @torch.no_grad()
    def fit(self, tokens: Int[Tensor, " N"]) -> None:
        """Count a text: about a second for a million tokens and K = 6. UsageError where it has no such contexts."""
        if len(tokens) <= self.longest:
            raise UsageError(
                f"a text of {len(tokens)} tokens has no context of {self.longest}",
                hint=f"--model.ngram.counted={len(tokens) - 1}, or a longer text",
            )
        self.fold_size = -(-len(tokens) // self.folds)
        fold = torch.arange(len(tokens)) // self.fold_size
        self.frequencies = torch.bincount(tokens, minlength=self.vocab_size).to(self.frequencies.dtype)
        for k in range(1, self.longest + 1):
            keys = ngram_ids(tokens[None], k, KEYS)[0, k - 1 : -1]  # contexts that lie whole within the text
            contexts, row = keys.unique(return_inverse=True)
            entries, entry = (row * self.vocab_size + tokens[k:]).unique(return_inverse=True)
            by_fold = torch.bincount(entry * self.folds + fold[k:], minlength=len(entries) * self.folds)
            setattr(self, f"contexts_{k}", contexts)
            setattr(self, f"followers_{k}", entries % self.vocab_size)
            sizes = torch.bincount(entries // self.vocab_size, minlength=len(contexts))
            setattr(self, f"offsets_{k}", nn.functional.pad(sizes.cumsum(0), (1, 0)))
            setattr(self, f"fold_counts_{k}", by_fold.view(-1, self.folds).float())
            setattr(self, f"counts_{k}", by_fold.view(-1, self.folds).sum(1))

    def adopt(self, tables: Mapping[str, Tensor]) -> None:
        """Take tables that were counted before, of whatever size; `tables` as in this module's `state_dict`."""
        for name in self.state_dict():
            if name in tables:
                setattr(self, name, tables[name].to(self.frequencies.device))

    @torch.no_grad()
    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        before: Int[Tensor, "B n"] | None = None,
        starts: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B T K V"]:
        """`before`: the tokens that stand before these, from a cache. `starts`: where in the counted text each row
        was cut; its folds are then left out."""
        B, T = tokens.shape
        context = tokens if before is None else torch.cat([before, tokens], dim=1)
        known = (
            torch.arange(context.shape[1] - T, context.shape[1], device=tokens.device) + 1
        )  # tokens in sight
        fold = None if starts is None else self.folds_of(starts, T)
        p = (self.frequencies / self.frequencies.sum()).expand(B * T, -1)
        levels = p.new_empty(B * T, self.longest, self.vocab_size)
        for k in range(1, self.longest + 1):
            keys = ngram_ids(context, k, KEYS)[:, -T:]
            row = self.find(k, keys).masked_fill_((known < k).expand(B, T), -1).flatten()
            levels[:, k - 1] = p = self.sharpen(k, row, p, fold)
        return levels.clamp_(min=1e-9).log_().view(B, T, self.longest, self.vocab_size)

    def folds_of(self, starts: Int[Tensor, " B"], T: int) -> Int[Tensor, " N"]:
        """The fold in which each position's target lies."""
        targets = starts[:, None] + 1 + torch.arange(T, device=starts.device)
        return (targets // self.fold_size).flatten()

    def find(self, k: int, keys: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        """The row of each context of k tokens, −1 where it was never seen."""
        contexts: Tensor = getattr(self, f"contexts_{k}")
        row = torch.searchsorted(contexts, keys.contiguous()).clamp_(max=len(contexts) - 1)
        return torch.where(contexts[row] == keys, row, -1)

    def sharpen(
        self, k: int, row: Int[Tensor, " N"], p: Float[Tensor, "N V"], fold: Int[Tensor, " N"] | None
    ) -> Float[Tensor, "N V"]:
        """p_k from p_{k−1}, by the formula above."""
        offsets: Tensor = getattr(self, f"offsets_{k}")
        first = offsets[row.clamp(min=0)]
        size = (offsets[row.clamp(min=0) + 1] - first).masked_fill_(row < 0, 0)
        place = torch.repeat_interleave(torch.arange(len(row), device=row.device), size)  # (E',)
        begins = size.cumsum(0) - size
        entry = torch.arange(len(place), device=row.device) + (first - begins)[place]
        n = getattr(self, f"counts_{k}")[entry].to(p.dtype)
        if fold is not None:
            n = n - getattr(self, f"fold_counts_{k}")[entry, fold[place]].to(p.dtype)
        total = p.new_zeros(len(row)).index_add_(0, place, n)  # N_k
        different = torch.zeros_like(total).index_add_(0, place, (n > 0).to(p.dtype))  # d_k
        unseen = total == 0
        share = 1 / (total + different).masked_fill_(unseen, 1.0)
        sharper = p * (different * share).masked_fill_(unseen, 1.0)[:, None]
        index = place * self.vocab_size + getattr(self, f"followers_{k}")[entry]
        sharper.view(-1).index_add_(0, index, n * share[place])
        return sharper


class NGramMixture(nn.Module):
    """Adds Σ_k (g_k + (W·h)_k) · log p_k to the logits: how far to trust each count, seen from the context h.

    A product of experts, as in PAQ's mixing of contexts (Mahoney 2005). It begins as the geometric mean of the
    orders from 3 on: the longest alone is too sure of what it saw once.
    """

    def __init__(self, d_model: int, longest: int) -> None:
        super().__init__()
        self.trust = nn.Linear(d_model, longest)

    def start(self) -> None:
        """The weights before training."""
        nn.init.zeros_(self.trust.weight)
        nn.init.zeros_(self.trust.bias)
        with torch.no_grad():
            trusted = self.trust.bias[min(2, len(self.trust.bias) - 1) :]
            trusted.fill_(1 / len(trusted))

    def forward(self, h: Float[Tensor, "B T C"], log_p: Float[Tensor, "B T K V"]) -> Float[Tensor, "B T V"]:
        with torch.autocast(h.device.type, enabled=False):  # log p would lose its digits
            return (self.trust(h.to(log_p.dtype)).unsqueeze(-2) @ log_p).squeeze(-2)
