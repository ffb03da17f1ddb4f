"""Which keys a query may see: always a span, from a first key to a last one.

Causality, a sliding window and documents packed in one row each cut off keys before or after; what is left of a row
is one span, and later queries have later spans. So a mask of T × S numbers is two numbers a query, and a block of
queries need look at the keys from its first query's first key to its last query's last, at no others.

Queries are the last T of the positions: query t stands at position p = t + S − T.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class Spans(NamedTuple):
    """Each query's first and last visible key; first > last where it may see none. One row if all rows are alike."""

    first: Int[Tensor, "B T"]
    last: Int[Tensor, "B T"]


def spans(
    T: int,
    S: int,
    *,
    causal: bool,
    window: int | None = None,
    document_ids: Int[Tensor, "B S"] | None = None,
    device: torch.device | str | None = None,
) -> Spans:
    """What `causal`, `window` and `document_ids` (see `attention`) leave of S keys to each of T queries."""
    position = torch.arange(S - T, S, device=device, dtype=torch.int32)[None]  # (1, T)
    first, last = torch.zeros_like(position), torch.full_like(position, S - 1)
    if causal:
        last = position.clone()
    if window is not None:
        first = (position - window + 1).clamp_min(0)
        last = torch.minimum(last, position + window - 1)
    if document_ids is not None:
        begins, ends = document_bounds(document_ids)
        first, last = (
            torch.maximum(first, begins[:, S - T :]),
            torch.minimum(last, ends[:, S - T :]),
        )
    return Spans(first, last)


def document_bounds(document_ids: Int[Tensor, "B S"]) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"]]:
    """Each position's document's first and last position. A document is a run of equal ids."""
    B, S = document_ids.shape
    at = torch.arange(S, device=document_ids.device, dtype=torch.int32).expand(B, S)
    changes = (
        document_ids[:, 1:] != document_ids[:, :-1]
    )  # position s + 1 begins a document, position s ends one
    edge = changes.new_ones(B, 1)
    begins = torch.where(torch.cat([edge, changes], 1), at, 0).cummax(1).values
    ends = torch.where(torch.cat([changes, edge], 1), at, S).flip(1).cummin(1).values.flip(1)
    return begins, ends


def queries_of_keys(visible: Spans, S: int) -> Spans:
    """The same, asked from the other side: each key's first and last query, (B, S). The backward pass goes by keys.

    Both ends of a span only grow with the query, so the queries that see key s are those from the first whose last
    key is s or later, to the last whose first key is s or earlier.
    """
    keys = torch.arange(S, device=visible.first.device, dtype=torch.int32).expand(len(visible.first), S)
    first = torch.searchsorted(visible.last.contiguous(), keys.contiguous(), out_int32=True)
    last = torch.searchsorted(visible.first.contiguous(), keys.contiguous(), right=True, out_int32=True) - 1
    return Spans(first, last)


def visible_mask(visible: Spans, S: int) -> Bool[Tensor, "B T S"]:
    """The spans written out: True where query t may see key s."""
    s = torch.arange(S, device=visible.first.device)
    return (visible.first[..., None] <= s) & (s <= visible.last[..., None])
