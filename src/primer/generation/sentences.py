"""Translating many sentences: batches of those that are about as long, results in the order in which they came."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from primer.data.pairs import padded
from primer.errors import UsageError
from primer.generation.beam import beam_search
from primer.generation.config import BeamConfig
from primer.generation.hypotheses import Hypothesis
from primer.models.ids import check_ids
from primer.models.transformer import Transformer

CANDIDATES = {"cpu": 1 << 25, "cuda": 1 << 28}
"""Continuations that are weighed at once, by kind of device: their probabilities take 128 MB in float32, or 1 GB."""


def beam_search_all(
    model: Transformer,
    sentences: Sequence[npt.NDArray[Any]],
    *,
    end: int,
    config: BeamConfig | None = None,
    wanted: int = 1,
    vocabulary: int | None = None,
    batch_tokens: int = 4096,
    use_cache: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[Hypothesis]]:
    """`beam_search` of every sentence (ids, its end token the last), in batches, the longest first.

    batch_tokens: places of the source in a batch, padding included.
    use_cache: as in `beam_search`.
    progress: called with how many are done, and how many there are.
    Raises what `beam_search` does; what no encoder could read is named before anything is translated.
    """
    config = config or BeamConfig()
    vocabulary = min(vocabulary or model.config.vocab_size, model.config.vocab_size)
    device = model.embedding.tokens.weight.device
    for number, sentence in enumerate(sentences):
        check_sentence(sentence, f"sentence {number}", vocabulary, model.config.context_length)
    rows = CANDIDATES.get(device.type, CANDIDATES["cpu"]) // (config.beam * vocabulary)
    found: list[list[Hypothesis]] = [[] for _ in sentences]
    done = 0
    for numbers in batches([len(sentence) for sentence in sentences], batch_tokens, rows):
        source = padded([sentences[number] for number in numbers]).to(device)
        results = beam_search(
            model, source, end=end, config=config, wanted=wanted, vocabulary=vocabulary, use_cache=use_cache
        )
        for number, result in zip(numbers, results, strict=True):
            found[number] = result
        done += len(numbers)
        progress(done, len(sentences))
    return found


def check_sentence(ids: npt.NDArray[Any], name: str, vocabulary: int, context: int) -> None:
    """UsageError for what the encoder cannot read."""
    if not len(ids):
        raise UsageError(f"{name} has no tokens", hint="its end token at least")
    if len(ids) > context:
        raise UsageError(
            f"{name} has {len(ids)} tokens, and the model's context is {context}", hint="a shorter sentence"
        )
    check_ids(torch.from_numpy(ids.astype(np.int64)), vocabulary, name)


def batches(lengths: Sequence[int], batch_tokens: int, most: int) -> Iterator[list[int]]:
    """Which sentences go together: neighbours by length, the longest first: what memory cannot hold shows early.

    At most `batch_tokens` places and `most` sentences, but one at least.
    """
    order = sorted(range(len(lengths)), key=lambda number: -lengths[number])
    start = 0
    while start < len(order):
        rows = max(1, min(most, batch_tokens // lengths[order[start]]))
        yield order[start : start + rows]
        start += rows
