"""What a run would cost, by arithmetic and one measurement, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from primer.data.foreign import is_foreign
from primer.data.prepare import is_prepared
from primer.data.shards import TOKENIZER
from primer.models import count
from primer.recipes.config import LEAST_STEPS, AnyConfig, RunConfig, TranslationConfig
from primer.tokens import open_tokenizer

SHARE = 0.6
"""The share of the measured matmul rate that training is taken to reach; 0.5 to 0.85 is usual."""
CHARACTERS = 96
"""The vocabulary of a character model is known when its text was read; until then, printable ASCII."""
VOCABULARIES = {"char": CHARACTERS, "byte": 256, "gpt2": 50257}
SMALL_BATCH = 4096
"""Tokens: what is no larger is computed at once."""


def plan(config: AnyConfig, rates: dict[str, float]) -> dict[str, Any]:
    """The costs of a run as plain values. `rates` keeps what was measured, by device and precision."""
    train, assumed = config.train, not config.model.vocab_size
    device, precision, rate = measure(config, rates)
    config = with_vocabulary(config, config.model.vocab_size or vocabulary(config))
    model = config.model
    rows, tokens, flops_a_step = step_of(config, device)
    memory = training_bytes(config, rows, device)
    seconds_a_step = flops_a_step / (rate * SHARE)
    steps = train.steps
    if train.minutes:
        steps = min(steps, max(LEAST_STEPS, int(train.minutes * 60 / seconds_a_step)))
    flops = flops_a_step * steps
    return {
        "recipe": config.recipe,
        "about": config.about,
        "kind": config.kind,
        "needs_weights": config.needs_weights,
        "source": config.data.source,
        "vocabulary": model.vocab_size,
        "vocabulary_assumed": assumed and config.data.tokenizer == "char",
        "parameters": count.parameters(model),
        "matmul_parameters": count.matmul_parameters(model),
        "flops_per_token": count.flops_per_token(model),
        "steps": steps,
        "steps_at_most": train.steps,
        "tokens_per_step": tokens,
        "tokens": tokens * steps,
        "flops": flops,
        "rows_at_once": rows,
        "memory": asdict(memory) | {"total": memory.total},
        "checkpoint_bytes": memory.weights * (2 if train.weight_average else 1) + memory.optimizer,
        "checkpoints": kept_at_most(config),
        "cache_bytes": count.cache_bytes(model),
        "device": device,
        "precision": precision,
        "matmul_flops": rate,
        "share": SHARE,
        "seconds": seconds_a_step * steps,
    }


def kept_at_most(config: AnyConfig) -> int:
    """Checkpoints that lie on the disk at once: the newest, the best one, and one that is being written.

    Where a mean of several is wanted, as many of those that it is taken from as well (`checkpoint.purge`).
    """
    several = isinstance(config, TranslationConfig) and config.translate.checkpoints > 1
    return (2 if several else 1) * config.train.keep + 2


def with_vocabulary(config: AnyConfig, vocab_size: int) -> AnyConfig:
    """The config with a model of so many tokens."""
    model: Any = replace(config.model, vocab_size=vocab_size)
    return replace(config, model=model)


def step_of(config: AnyConfig, device: str) -> tuple[int, int, float]:
    """Of a step: what is computed at once (sequences, or places of pairs), tokens to predict, and FLOPs."""
    model = config.model
    if isinstance(config, TranslationConfig):
        tokens = config.train.batch_tokens
        return places_at_once(config, device), tokens, tokens * count.flops_per_token(model)
    train = config.train
    tokens = train.batch_size * config.model.context_length
    short = train.short_until if train.short_context else 0.0
    flops = tokens * (
        short * count.flops_per_token(model, train.short_context or None)
        + (1 - short) * count.flops_per_token(model)
    )
    return train.micro_batch or rows_at_once(config, device, train.batch_size), tokens, flops


def places_at_once(config: TranslationConfig, device: str) -> int:
    """Places of a batch of pairs that are computed at once: all of a small one; on a GPU what fits."""
    import torch

    from primer import device as devices

    train = config.train
    if train.micro_tokens or train.batch_tokens <= SMALL_BATCH:
        return min(train.micro_tokens or train.batch_tokens, train.batch_tokens)
    if device == "cpu":
        return SMALL_BATCH
    pieces, memory = 1, devices.free_memory(torch.device(device))
    while (places := -(-train.batch_tokens // pieces)) > SMALL_BATCH:
        if not memory or training_bytes(config, places, device).total < 0.8 * memory:
            break
        pieces += 1
    return places


def outcome(
    planned: dict[str, Any], *, parameters: int, steps: int, tokens: int, seconds: float, memory: int
) -> dict[str, Any]:
    """What a plan's figures turned out to be; `memory` is the peak of the process (on CUDA of the device's tensors)."""
    flops = tokens * planned["flops"] / max(planned["tokens"], 1)
    return {
        "parameters": parameters,
        "memory": memory,
        "steps": steps,
        "tokens": tokens,
        "flops": flops,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(tokens / max(seconds, 1e-9)),
        "share": round(flops / max(seconds, 1e-9) / planned["matmul_flops"], 4),
    }


def vocabulary(config: AnyConfig) -> int:
    """Rows of the embedding, as far as that is known before the text was read."""
    name = config.data.tokenizer
    if isinstance(config, TranslationConfig):
        known = config.data.vocab_size if name == "bpe" else open_tokenizer(name).vocab_size
        return config.model.padded(known)
    if is_prepared(config.data.source):
        name = str(Path(config.data.source) / TOKENIZER)
    elif is_foreign(config.data.source) and name == "char":
        name = "gpt2"
    return config.model.padded(VOCABULARIES.get(name) or open_tokenizer(name).vocab_size)


def training_bytes(config: AnyConfig, rows: int, device: str) -> count.TrainingBytes:
    """What has to be in memory for so many rows (or places of pairs) at once."""
    from primer.kernels import cross_entropy

    logits = cross_entropy.held_at_once(
        device,
        narrow=config.train.precision in ("bf16", "fp16"),
        compiled=config.train.compile == "on",
    )
    return count.training_bytes(config.model, rows, optimizer=config.optim.name, logits=logits)


def candidates(config: RunConfig, rows: int, memory: int, device: str = "cpu") -> list[int]:
    """Micro-batches that divide `rows` into halves: of at least 1,024 tokens, and as many as fit. One at least."""
    halves = [rows >> k for k in range(rows.bit_length()) if rows % (1 << k) == 0]
    worth = sorted(n for n in halves if n * config.model.context_length >= 1024) or halves[:1]
    fitting = [n for n in worth if not memory or training_bytes(config, n, device).total < 0.8 * memory]
    return fitting or [min(halves)]


def rows_at_once(config: RunConfig, device: str, rows: int) -> int:
    """The micro-batch out of `rows` by estimate: small on a CPU, what fits on a GPU. (A run measures it.)"""
    import torch

    from primer import device as devices

    if rows * config.model.context_length <= SMALL_BATCH:
        return rows
    found = candidates(config, rows, devices.free_memory(torch.device(device)), device)
    return found[0] if device == "cpu" else found[-1]


def measure(config: AnyConfig, rates: dict[str, float]) -> tuple[str, str, float]:
    """The device, the precision, and the FLOP/s of matrix products there; each pair is measured once."""
    import torch

    from primer import device as devices

    device = devices.choose(config.train.device)
    devices.set_threads(config.train.threads)
    dtype = devices.autocast_dtype(device, config.train.precision) or torch.float32
    precision = str(dtype).removeprefix("torch.")
    key = f"{device} {precision} {config.train.threads}"
    if key not in rates:
        rates[key] = devices.matmul_rate(device, dtype)
    return str(device), precision, rates[key]
