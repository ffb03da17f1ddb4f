"""From a config to the things that it names: model, optimizer, stream, trainer. The one place that wires them."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from primer import device as devices
from primer.data.batches import Batch, BatchStream, Stream, TokenSequence, evaluation_windows
from primer.data.shards import ShardDirectory
from primer.errors import DataError
from primer.evals.likelihood import at_once
from primer.floats.formats import element
from primer.models.config import GPTConfig, TransformerConfig
from primer.models.gpt import GPT
from primer.nn.probe import STACKS
from primer.recipes.config import AnyConfig, RunConfig
from primer.tokens.tokenizer import END_OF_TEXT
from primer.training.average import WeightAverage
from primer.training.config import OptimConfig
from primer.training.distributed import World
from primer.training.loop import Trainer
from primer.training.optim import AdamW, Muon, Optimizer, Optimizers, decay_groups
from primer.training.optim_in_format import AdamWInFormat
from primer.training.precision import Precision, in_formats
from primer.training.schedule import schedule

LEAST_REACH = 0.1
"""Of the training text, what an order must be able to reach."""


def build_model(config: RunConfig, shards: ShardDirectory, device: torch.device) -> GPT:
    """The model with fresh weights, which depend on the seed alone (they are drawn on the CPU)."""
    torch.manual_seed(config.seed)
    model = GPT(config.model)
    in_formats(model, config.precision)
    if model.counts is not None:
        model.counts.fit(torch.from_numpy(shards.tokens("train")[:].astype(np.int64)))
    return model.to(device)


def build_optimizer(config: AnyConfig, model: nn.Module) -> Optimizer:
    """AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest."""
    optim = config.optim
    named = list(model.named_parameters())
    members: list[Optimizer] = []
    if optim.name == "muon":
        matrices = [(name, p) for name, p in named if p.ndim == 2 and name.split(".")[0] in STACKS]
        taken = {name for name, _ in matrices}
        named = [(name, p) for name, p in named if name not in taken]
        members.append(
            Muon(
                matrices,
                lr=optim.muon_lr,
                momentum=optim.muon_momentum,
                weight_decay=optim.muon_weight_decay,
                dtype={"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}[optim.muon_dtype],
                rows=fused_rows(config.model),
            )
        )
    by_rate: dict[float, list[tuple[str, nn.Parameter]]] = {}
    for name, p in named:
        by_rate.setdefault(adamw_rate(optim, name), []).append((name, p))
    for lr, chosen in by_rate.items():
        decayed, plain = (chosen, []) if optim.decay_all else decay_groups(chosen)
        for group, decay in ((decayed, optim.weight_decay), (plain, 0.0)):
            if group:
                members.append(
                    adamw(
                        group,
                        config.precision.optimizer,
                        lr=lr,
                        betas=optim.betas,
                        eps=optim.eps,
                        weight_decay=decay,
                    )
                )
    return Optimizers(members)


def adamw(group: list[tuple[str, nn.Parameter]], form: str, **how: Any) -> Optimizer:
    """AdamW, whose state lives in a format where one is named."""
    return AdamWInFormat(group, element(form), **how) if form else AdamW(group, **how)


def adamw_rate(optim: OptimConfig, name: str) -> float:
    """AdamW's peak learning rate for a parameter: its part's own, where the config gives one."""
    own = {
        **dict.fromkeys(("token_embedding", "embedding"), optim.embedding_lr),
        "head": optim.head_lr,
        **dict.fromkeys(("counts_in", "mixture", "ngrams"), optim.ngram_lr),
    }
    return own.get(name.split(".")[0], 0.0) or optim.lr


def fused_rows(config: GPTConfig | TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Which parameters hold several matrices, and the rows of each: queries, keys and values."""
    if isinstance(config, TransformerConfig):
        keys, values = config.n_heads * config.key_width, config.d_model
        layers = [
            f"{stack}.{number}" for stack in ("encoder", "decoder") for number in range(config.n_layers)
        ]
        own = {f"{layer}.attention.qkv.weight": (keys, keys, values) for layer in layers}
        crossed = [f"decoder.{n}.cross_attention.keys_values.weight" for n in range(config.n_layers)]
        return own | dict.fromkeys(crossed, (keys, values))
    key_rows = config.kv_heads * config.d_head
    sizes = (config.d_model, key_rows, key_rows)
    return {f"layers.{number}.attention.qkv.weight": sizes for number in range(config.n_layers)}


def build_stream(config: RunConfig, shards: ShardDirectory, world: World) -> BatchStream:
    """The training batches of this process."""
    return BatchStream(
        shards.tokens("train"),
        batch_size=config.train.batch_size,
        context_length=config.model.context_length,
        seed=config.seed,
        rank=world.rank,
        world_size=world.size,
        order=config.data.order,
        begin=shards.tokenizer.special_tokens.get(END_OF_TEXT),
    )


def reaches(stream: BatchStream) -> bool:
    """Whether an order reaches enough of a training text to be meant."""
    return stream.reach() >= LEAST_REACH


def require_reach(stream: BatchStream) -> None:
    """DataError for an order that hardly reaches a training text; a run that has begun with it may go on."""
    if not reaches(stream):
        raise DataError(
            f"windows that begin at documents would leave out {1 - stream.reach():.1%} of these tokens: "
            "the documents are far longer than the context",
            where="data.order=documents",
            hint="--data.order=epochs",
        )


class Spare(Batch):
    """A batch that is read and not scored: its process has none left, and a sharded model is read by all at once."""


def validation_batches(
    config: RunConfig,
    shards: ShardDirectory,
    world: World,
    step: int,
    *,
    device: torch.device,
    together: bool = False,
) -> Iterator[Batch]:
    """This process's part of the validation split: all of it (or of its beginning), or random windows (the lecture).

    device: where it is scored, which says how much is at once.
    together: as many for every process, by a `Spare` one where need be.
    """
    tokens: TokenSequence = shards.tokens("validation")
    train, context = config.train, config.model.context_length
    if train.evaluate_batches:
        stream = BatchStream(
            tokens,
            batch_size=train.batch_size,
            context_length=context,
            seed=config.seed + step,
            order="random",
        )
        return dealt((stream.next() for _ in range(train.evaluate_batches)), world, together)
    if train.evaluate_tokens:
        tokens = tokens[: train.evaluate_tokens + 1]
    rows = rows_to_score(config.model, device)
    return dealt(evaluation_windows(tokens, batch_size=rows, context_length=context), world, together)


def dealt(batches: Iterable[Batch], world: World, together: bool) -> Iterator[Batch]:
    """Every `world.size`-th batch, beginning with this process's rank."""
    left, last = 0, None
    for number, last in enumerate(batches):
        left = (number + 1) % world.size
        if number % world.size == world.rank:
            yield last
    if together and left and world.rank >= left and last is not None:
        yield Spare(last.inputs, last.targets, last.starts)


def tokens_to_score(config: RunConfig, shards: ShardDirectory) -> int:
    """How many targets an evaluation has, of all processes together."""
    train = config.train
    if train.evaluate_batches:
        return train.evaluate_batches * train.batch_size * config.model.context_length
    there = shards.counts["validation"]["tokens"] - 1
    return min(there, train.evaluate_tokens or there)


def rows_to_score(model: GPTConfig, device: torch.device) -> int:
    """Sequences to score at once."""
    return max(1, at_once(model.vocab_size, device) // model.context_length)


def build_trainer(config: RunConfig, model: GPT, shards: ShardDirectory, world: World) -> Trainer:
    """A language model's trainer at step 0. `config.train.micro_batch` must be known (`choose_micro_batch`)."""
    context = config.model.context_length
    return assemble(
        config,
        model,
        build_stream(config, shards, world),
        world,
        places=config.train.micro_batch * context,
        shape=partial(config.train.shape_at, context_length=context, processes=world.size),
    )


def assemble(
    config: AnyConfig,
    model: nn.Module,
    stream: Stream,
    world: World,
    *,
    places: int,
    shape: Callable[[int], tuple[int, int]] | None = None,
) -> Trainer:
    """A trainer at step 0, of whatever the stream brings. Leaves chance where the dropout of this process begins.

    places, shape: as `Trainer` has them.
    """
    device, train = next(model.parameters()).device, config.train
    trainer = Trainer(
        model=model,
        optimizer=build_optimizer(config, model),
        stream=stream,
        config=train,
        schedule=schedule(config.schedule, train.steps),
        places=places,
        shape=shape,
        clip=config.optim.clip,
        precision=Precision(
            device, devices.autocast_dtype(device, train.precision), config.precision, config.seed
        ),
        world=world,
        average=WeightAverage(model, train.weight_average) if train.weight_average else None,
    )
    trainer.precision.round_weights(trainer.parameters, 0)
    # Dropout: after the weights were drawn, every process goes its own way, whatever chance was used before.
    torch.manual_seed(config.seed + 1 + world.rank)
    return trainer
