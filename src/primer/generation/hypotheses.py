"""What a beam search holds: translations, as values and, many at once, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from primer.shapes import PADDING


@dataclass(frozen=True)
class Hypothesis:
    """A translation, as far as it was written."""

    ids: tuple[int, ...]
    """Without the end token."""
    log_p: float
    """log P(Y | X) in nats, that of the end token included."""
    score: float
    """log P(Y | X) / lp(Y), which translations are compared by."""
    ended: bool
    """Whether the model ended it; else the limit did."""


@dataclass(frozen=True)
class Hypotheses:
    """R hypotheses of each of M sentences. One that is none has log P = −∞."""

    ids: Int[Tensor, "M R T"]
    """What was written, behind the token that the decoder begins with; behind an end stands padding."""
    log_p: Float[Tensor, "M R"]
    score: Float[Tensor, "M R"]

    @classmethod
    def none(cls, sentences: int, rows: int, like: Float[Tensor, " N"]) -> Hypotheses:
        """Place for `rows` hypotheses, in the precision and on the device of `like`."""
        nothing = like.new_full((sentences, rows), -torch.inf)
        ids = torch.full((sentences, rows, 1), PADDING, device=like.device)
        return cls(ids, nothing, nothing.clone())

    def of(self, sentences: Int[Tensor, " N"]) -> Hypotheses:
        """Those of some of the sentences."""
        return Hypotheses(self.ids[sentences], self.log_p[sentences], self.score[sentences])

    def only(self, which: Bool[Tensor, "M R"]) -> Hypotheses:
        """These; in the others' places stand none."""
        log_p, score = (values.masked_fill(~which, -torch.inf) for values in (self.log_p, self.score))
        return Hypotheses(self.ids, log_p, score)

    def and_longer(self, others: Hypotheses) -> Hypotheses:
        """These, and behind them others that are one token longer."""
        return Hypotheses(
            torch.cat([F.pad(self.ids, (0, 1), value=PADDING), others.ids], dim=1),
            torch.cat([self.log_p, others.log_p], dim=1),
            torch.cat([self.score, others.score], dim=1),
        )

    def best(self, count: int) -> tuple[Hypotheses, Int[Tensor, "M N"]]:
        """The `count` with the highest scores, and where they stood; of equal ones the first."""
        score, order = (x[:, :count] for x in self.score.sort(dim=1, descending=True, stable=True))
        return Hypotheses(taken(self.ids, order), self.log_p.gather(1, order), score), order

    def listed(self, end: int) -> list[list[Hypothesis]]:
        """Those of each sentence as values."""
        return [
            [hypothesis(*row, end) for row in zip(*rows, strict=True) if row[2] > -torch.inf]
            for rows in zip(self.ids.tolist(), self.log_p.tolist(), self.score.tolist(), strict=True)
        ]


def hypothesis(row: list[int], log_p: float, score: float, end: int) -> Hypothesis:
    """One row of `Hypotheses` as a value."""
    ids = tuple(token for token in row[1:] if token != PADDING)
    ended = ids[-1] == end
    return Hypothesis(ids[:-1] if ended else ids, log_p, score, ended)


def taken(ids: Int[Tensor, "M R T"], rows: Int[Tensor, "M N"]) -> Int[Tensor, "M N T"]:
    """Of each sentence these rows."""
    return ids.gather(1, rows[:, :, None].expand(-1, -1, ids.shape[2]))


def largest(
    values: Float[Tensor, "M N"], count: int
) -> tuple[Float[Tensor, "M count"], Int[Tensor, "M count"]]:
    """The `count` largest of each row and their places, the largest first; of equal ones those that stand first.

    `topk` is about as fast as reading, but leaves open which of equal ones it takes.
    """
    top, places = values.topk(min(count + 1, values.shape[1]))
    places = places[:, :count]
    tied = (top[:, count:] == top[:, count - 1 : count]).any(dim=1)  # equal ones on both sides of the cut
    if bool(tied.any()):
        places[tied] = values[tied].sort(dim=1, descending=True, stable=True).indices[:, :count]
    places = places.sort(dim=1).values
    top, order = values.gather(1, places).sort(dim=1, descending=True, stable=True)
    return top, places.gather(1, order)
