"""Translating: of all that the decoder could write, look for the likeliest sentence (Vaswani et al. 2017, §6.1).

Beam search. After every token the K likeliest unfinished hypotheses of a sentence are kept, the beam. Each grows by
every token of the vocabulary; of these K·V candidates the 2K likeliest are looked at: each hypothesis can end in one
way only, so at least K of them are unfinished, and are the next beam. Those that end are finished.

The longer a sentence, the less likely it is, so finished hypotheses are compared by (Wu et al. 2016, eq. 14)

    score(Y) = log P(Y | X) / lp(Y),   lp(Y) = (5 + |Y|)^α / (5 + 1)^α

without the coverage penalty, of which the paper says nothing. As in its authors' code (tensor2tensor), |Y| counts the
end token, and so does the limit: a translation has at most 50 tokens more than its source, each with its end token.

Ended early where possible. However an unfinished hypothesis Y goes on, it only loses probability, and no lp is larger
than the limit's: its score can become log P(Y | X) / lp(limit) at most. As soon as the finished ones that are wanted
have no less, the search is over: what comes would change nothing.

At the limit, what is unfinished is given up: a beginning is likelier than all that it can become, so it would win
against sentences too often. Only where none has finished, the unfinished are the result, as they stand and penalised
alike.

A beam of 1 is greedy decoding: always the likeliest token, until that is the end.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from primer.errors import DataError, UsageError
from primer.generation.config import BeamConfig
from primer.generation.hypotheses import Hypotheses, Hypothesis, largest, taken
from primer.models.ids import check_ids
from primer.models.transformer import Transformer
from primer.nn.cache import DecoderCache
from primer.nn.mode import reading
from primer.shapes import PADDING

__all__ = ["BeamConfig", "Hypothesis", "beam_search", "length_penalty"]


def length_penalty(length: int, alpha: float) -> float:
    """lp(Y) = (5 + |Y|)^α / (5 + 1)^α: Wu et al. 2016, eq. 14. With α = 0 it is 1.

    >>> length_penalty(1, 0.6), length_penalty(7, 1.0)
    (1.0, 2.0)
    """
    return float(((5 + length) / (5 + 1)) ** alpha)


@torch.no_grad()
def beam_search(
    model: Transformer,
    source: Int[Tensor, "B S"],
    *,
    end: int,
    config: BeamConfig | None = None,
    wanted: int = 1,
    vocabulary: int | None = None,
    use_cache: bool = True,
) -> list[list[Hypothesis]]:
    """For each row of `source` the `wanted` best translations of those that the search finds, the best first.

    There are fewer where fewer have ended within the limit, which is `config.extra_length` beyond the source's length,
    or the model's context. What else is in the batch plays no part. Of equal candidates the one that continues a better
    hypothesis goes first, then the one with the lower id. The model is in evaluation mode while this runs.

    wanted: 1 to `config.beam`. They are the same as if every search went on to its limit; the more, the later it ends.
    vocabulary: only ids below it are written, as if a vocabulary that was padded had not been.
    use_cache: without, every step reads all from its beginning; the result is the same up to rounding.
    Raises UsageError for an empty sentence or an id that is none, DataError for logits that are not finite.
    """
    config = config or BeamConfig()
    vocabulary = min(vocabulary or model.config.vocab_size, model.config.vocab_size)
    check(source, end, vocabulary, wanted, config)
    if not len(source):
        return []
    limits = (source != PADDING).sum(dim=1) + config.extra_length  # (B)
    limits = limits.clamp(max=model.config.context_length)
    with reading(model):
        cache = model.start(source, config.beam, int(limits.max())) if use_cache else None
        dtype = torch.promote_types(model.embedding.tokens.weight.dtype, torch.float32)
        search = Search(limits, end, config, wanted, dtype)
        while search.numbers:
            log_p = next_log_p(model, source, search.alive.ids, cache, vocabulary)
            parents = search.grow(log_p)
            kept = search.leave()
            left = len(kept) < len(source)
            if cache and (left or config.beam > 1):
                rows = kept[:, None] * config.beam + parents[kept]
                cache.select(rows.flatten(), kept if left else None)
            source = source[kept] if left else source
    return search.found


def check(source: Int[Tensor, "B S"], end: int, vocabulary: int, wanted: int, config: BeamConfig) -> None:
    """UsageError for what cannot be searched."""
    check_ids(source, vocabulary, "the source", least=PADDING)
    empty = (source == PADDING).all(dim=1).nonzero().flatten().tolist()
    if empty:
        raise UsageError(f"sentence {empty[0]} has no tokens", hint="its end token at least")
    if not 0 <= end < vocabulary:
        raise UsageError(f"the end token is {end}, and the vocabulary ends at {vocabulary - 1}")
    if not 1 <= wanted <= config.beam:
        raise UsageError(
            f"{wanted} translations are wanted of a beam of {config.beam}", hint=f"1 to {config.beam}"
        )


def next_log_p(
    model: Transformer,
    source: Int[Tensor, "M S"],
    ids: Int[Tensor, "M K T"],
    cache: DecoderCache | None,
    vocabulary: int,
) -> Float[Tensor, "M K V"]:
    """log P(token | ids, source) for every token, in float32 or wider."""
    if cache:
        logits = model.step(ids[:, :, -1:].flatten(0, 1), cache)
    else:
        sources = source.repeat_interleave(ids.shape[1], dim=0)
        logits = model(sources, ids.flatten(0, 1), last_only=True)[:, -1]
    logits = logits[:, :vocabulary].unflatten(0, ids.shape[:2])  # (M, K, V)
    return (logits.float() if logits.dtype.itemsize < 4 else logits).log_softmax(dim=-1)


class Search:
    """How far the search is: M sentences, of each K unfinished hypotheses and the `wanted` best finished ones.

    Sentences that are done leave; `found` has their results, in the order of the batch.
    """

    def __init__(
        self, limits: Int[Tensor, " M"], end: int, config: BeamConfig, wanted: int, dtype: torch.dtype
    ) -> None:
        self.limits, self.end, self.beam, self.wanted = limits, end, config.beam, wanted
        self.numbers = list(range(len(limits)))  # where in the batch each of the M sentences stands
        self.found: list[list[Hypothesis]] = [[] for _ in self.numbers]
        penalties = [length_penalty(n, config.length_penalty) for n in range(int(limits.max()) + 1)]
        self.penalties = torch.tensor(penalties, dtype=dtype, device=limits.device)  # lp, by |Y|
        self.alive = Hypotheses.none(len(limits), self.beam, like=self.penalties)
        self.alive.ids.fill_(end)  # the decoder begins with it
        self.alive.log_p[:, 0] = 0.0  # in the beginning there is one hypothesis: nothing
        self.finished = Hypotheses.none(len(limits), wanted, like=self.penalties)
        self.sound = torch.ones_like(limits, dtype=torch.bool)

    @property
    def length(self) -> int:
        """Tokens written so far."""
        return self.alive.ids.shape[2] - 1

    def grow(self, log_p: Float[Tensor, "M K V"]) -> Int[Tensor, "M K"]:
        """Write one more token. Returns which hypothesis each unfinished one continues."""
        vocabulary = log_p.shape[2]
        totals = (self.alive.log_p[:, :, None] + log_p).flatten(1)  # (M, K·V)
        count = 2 * self.beam if self.beam > 1 else 1  # greedy has no second choice
        totals, places = largest(totals, min(count, totals.shape[1]))  # (M, 2K)
        self.sound = ~totals[:, 0].isnan()  # NaN comes first
        parents, tokens = places // vocabulary, places % vocabulary
        ids = torch.cat([taken(self.alive.ids, parents), tokens[:, :, None]], dim=2)  # (M, 2K, T + 1)
        candidates = Hypotheses(ids, totals, totals / self.penalties[ids.shape[2] - 1])
        ends = tokens == self.end
        self.finished, _ = self.finished.and_longer(candidates.only(ends)).best(self.wanted)
        self.alive, order = candidates.only(~ends).best(self.beam)
        return parents.gather(1, order)

    def going(self) -> Bool[Tensor, " M"]:
        """Which sentences may still find a better translation."""
        possible = self.alive.log_p[:, 0] / self.penalties[self.limits]
        return (self.length < self.limits) & (self.finished.score[:, -1] < possible)

    def leave(self) -> Int[Tensor, " N"]:
        """Take down what was found for the sentences that are done. Returns the places of those that go on."""
        sound, going = torch.stack([self.sound, self.going()]).tolist()  # here we wait for the device
        if not all(sound):
            raise DataError(
                "the model's logits are not finite", hint="an earlier checkpoint: these weights have diverged"
            )
        kept, done = (
            torch.tensor([m for m, on in enumerate(going) if on == which], device=self.limits.device).long()
            for which in (True, False)
        )
        if len(done):
            self.take_down(done)
            self.numbers = [self.numbers[m] for m in kept.tolist()]
            self.limits = self.limits[kept]
            self.alive, self.finished = self.alive.of(kept), self.finished.of(kept)
        return kept

    def take_down(self, done: Int[Tensor, " N"]) -> None:
        """The finished ones are what was found; the unfinished, where there are none."""
        finished, unfinished = (group.of(done).listed(self.end) for group in (self.finished, self.alive))
        for m, ended, cut in zip(done.tolist(), finished, unfinished, strict=True):
            self.found[self.numbers[m]] = ended or cut[: self.wanted]
