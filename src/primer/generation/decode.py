"""Writing: choose a token, append it, look again.

The keys and values of what was read are kept (`nn/cache.py`), so one more token costs one token's work
and not the whole window's. The cached logits are those of recomputing the window, up to rounding.

Beyond the context. A model sees at most `context_length` tokens. When the window is full, it starts again
from its last half: that half is read once, and then there is room for as many tokens more. A window that
slid by one token each time, as the lecture's does, would show a little more text but could keep no cache:
with learned positions every token would stand somewhere else after each step, and all keys and values
would change.
"""

from collections.abc import Collection, Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from primer.errors import UsageError
from primer.generation.sampling import Sampling, choose
from primer.models.gpt import GPT
from primer.models.ids import check_ids
from primer.nn.mode import reading


@torch.no_grad()
def generate(
    model: GPT,
    prompt: Int[Tensor, "B T"],
    *,
    max_tokens: int,
    sampling: Sampling | None = None,
    generator: torch.Generator | None = None,
    stop: Collection[int] = (),
    vocabulary: int | None = None,
    use_cache: bool = True,
) -> Iterator[Int[Tensor, " B"]]:
    """Yield up to `max_tokens` times the next id of each row: several samples are several equal rows.

    A row that drew an id of `stop` has ended and repeats that id; when all rows have ended, so does the
    iterator. The model is in evaluation mode while this runs (no dropout) and is put back into its modes
    afterwards. `sampling` counts the tokens in the window as repeated, prompt included.

    vocabulary: only ids below it are drawn. A model's vocabulary may be padded beyond its tokenizer's, to a size that
    a GPU likes; the model then draws what it would draw without the padding, seed for seed.
    """
    context = model.config.context_length
    vocabulary = min(vocabulary or model.config.vocab_size, model.config.vocab_size)
    check_prompt(prompt, vocabulary)
    sampling = sampling or Sampling()
    window = prompt[:, -context:]
    cache = model.new_cache(len(prompt)) if use_cache else None
    ended = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    ids = window[:, -1]
    unread = window
    with reading(model):
        for _ in range(max_tokens):
            logits = model(unread, cache)[:, -1, :vocabulary]
            ids = torch.where(ended, ids, choose(logits, sampling, generator, previous=window))
            yield ids
            if stop:
                ended |= torch.isin(ids, torch.tensor(list(stop), device=ids.device))
                if ended.all():
                    return
            window = torch.cat([window, ids[:, None]], dim=1)
            unread = window if cache is None else ids[:, None]
            if window.shape[1] > context:
                unread = window = window[:, -max(1, context // 2) :]
                if cache:
                    cache.reset()


def check_prompt(prompt: Int[Tensor, "B T"], vocab_size: int) -> None:
    """UsageError for a prompt that no model could read."""
    if prompt.numel() == 0:
        raise UsageError("the prompt has no tokens", hint="at least one: a newline will do")
    check_ids(prompt, vocab_size, "the prompt")
