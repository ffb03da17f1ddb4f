"""How well an encoder–decoder predicts translations: loss and perplexity, by token and by word."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from primer.data.pairs import PairBatch
from primer.evals.perplexity import evaluating
from primer.models.ids import check_ids
from primer.models.transformer import Transformer
from primer.shapes import PADDING


@dataclass(frozen=True)
class PairScore:
    """Over all targets of many pairs, the end token of each among them."""

    loss: float
    """Mean −log p of a token, in nats."""
    perplexity: float
    """e^loss, which is what table 3 of Vaswani et al. 2017 prints: comparable for one vocabulary only."""
    word_perplexity: float
    """e^(all nats / (words + sentences)): comparable between vocabularies."""
    tokens: int
    """How many targets were scored."""
    words: int
    """Of the text that they spell."""
    sentences: int


def score_pairs(
    model: Transformer,
    batches: Iterable[PairBatch],
    words: int,
    *,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
    progress: Callable[[int], None] = lambda tokens: None,
) -> PairScore:
    """Score every target in `batches` once, without label smoothing.

    words: of the target text, whatever a tokenizer makes of them, cut at white space. The end of a sentence has to be
    predicted like a word and its nats count, so it is counted as one, as SRILM and KenLM do for language models.
    total: adds the three sums up over several processes that each score a part of the pairs, of which `words` is the
    whole.
    progress: called with the targets scored so far, here.
    """
    device = model.embedding.tokens.weight.device
    sums = torch.zeros(3, dtype=torch.float64)  # nats, tokens, sentences
    with evaluating(model):
        for batch in batches:
            _check(batch, model.config.vocab_size)
            tokens = int((batch.targets != PADDING).sum())
            loss = model(batch.source.to(device), batch.inputs.to(device), batch.targets.to(device))
            sums += torch.tensor([loss.item() * tokens, tokens, len(batch.targets)], dtype=torch.float64)
            progress(int(sums[1]))
    nats, tokens_sum, sentences = total(sums.to(device if device.type == "cuda" else "cpu")).tolist()
    loss_mean, word_loss = nats / max(tokens_sum, 1), nats / max(words + sentences, 1)
    return PairScore(
        loss=loss_mean,
        perplexity=math.exp(min(loss_mean, 700.0)),
        word_perplexity=math.exp(min(word_loss, 700.0)),
        tokens=int(tokens_sum),
        words=words,
        sentences=int(sentences),
    )


def _check(batch: PairBatch, vocab_size: int) -> None:
    """UsageError for an id outside the vocabulary, before a device reads it."""
    for name in ("source", "inputs", "targets"):
        check_ids(getattr(batch, name), vocab_size, f"the {name}", least=PADDING)
