"""From a config to the things that it names: model, optimizer, stream, trainer. The one place that wires them."""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from primer import device as devices
from primer.data.batches import Batch, BatchStream, evaluation_windows
from primer.data.shards import ShardDirectory
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.nn.loss import cross_entropy
from primer.recipes.config import RunConfig
from primer.training import generators
from primer.training.average import WeightAverage
from primer.training.distributed import World
from primer.training.loop import Forward, Trainer
from primer.training.optim import AdamW, Muon, Optimizer, Optimizers, decay_groups
from primer.training.precision import Precision
from primer.training.schedule import schedule

Tell = Callable[[str], None]


def build_model(config: RunConfig, shards: ShardDirectory, device: torch.device) -> GPT:
    """The model with fresh weights, which depend on the seed alone (they are drawn on the CPU)."""
    torch.manual_seed(config.seed)
    model = GPT(config.model)
    if model.counts is not None:
        model.counts.fit(torch.from_numpy(shards.tokens("train")[:].astype(np.int64)))
    return model.to(device)


def build_optimizer(config: RunConfig, model: nn.Module) -> Optimizer:
    """AdamW for everything, or Muon for the blocks' matrices and AdamW for the rest."""
    optim = config.optim
    named = list(model.named_parameters())
    members: list[Optimizer] = []
    if optim.name == "muon":
        matrices = [(name, p) for name, p in named if p.ndim == 2 and name.startswith("layers.")]
        taken = {name for name, _ in matrices}
        named = [(name, p) for name, p in named if name not in taken]
        members.append(
            Muon(
                matrices,
                lr=optim.muon_lr,
                momentum=optim.muon_momentum,
                weight_decay=optim.muon_weight_decay,
                rows=fused_rows(config.model),
            )
        )
    mixing = {"counts_in", "mixture", "ngrams"} if optim.ngram_lr else set()
    for lr, chosen in (
        (optim.lr, [(name, p) for name, p in named if name.split(".")[0] not in mixing]),
        (optim.ngram_lr, [(name, p) for name, p in named if name.split(".")[0] in mixing]),
    ):
        decayed, plain = (chosen, []) if optim.decay_all else decay_groups(chosen)
        for group, decay in ((decayed, optim.weight_decay), (plain, 0.0)):
            if group:
                members.append(AdamW(group, lr=lr, betas=optim.betas, eps=optim.eps, weight_decay=decay))
    return Optimizers(members)


def fused_rows(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Which parameters hold several matrices, and the rows of each: queries, keys and values."""
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
    )


def validation_batches(config: RunConfig, shards: ShardDirectory, world: World, step: int) -> Iterator[Batch]:
    """This process's part of the validation split: all of it once, or random windows as the lecture takes them."""
    tokens = shards.tokens("validation")
    context = config.model.context_length
    if not config.train.evaluate_batches:
        rows = max(1, 8192 // context)
        windows = evaluation_windows(tokens, batch_size=rows, context_length=context)
        return itertools.islice(windows, world.rank, None, world.size)
    stream = BatchStream(
        tokens,
        batch_size=config.train.batch_size,
        context_length=context,
        seed=config.seed + step,
        order="random",
    )
    mine = range(world.rank, config.train.evaluate_batches, world.size)
    return (stream.next() for _ in mine)


def build_trainer(config: RunConfig, model: GPT, shards: ShardDirectory, world: World) -> Trainer:
    """A trainer at step 0. `config.train.micro_batch` must be known (`choose_micro_batch`)."""
    device = next(model.parameters()).device
    trainer = Trainer(
        model=model,
        optimizer=build_optimizer(config, model),
        stream=build_stream(config, shards, world),
        config=config.train,
        schedule=schedule(config.schedule, config.train.steps),
        context_length=config.model.context_length,
        micro_batch=config.train.micro_batch,
        clip=config.optim.clip,
        precision=Precision(device, devices.autocast_dtype(device, config.train.precision)),
        world=world,
        average=WeightAverage(model, config.train.weight_average) if config.train.weight_average else None,
    )
    # Dropout: after the weights were drawn, every process goes its own way, whatever chance was used before.
    torch.manual_seed(config.seed + 1 + world.rank)
    return trainer


def accelerate(trainer: Trainer, config: RunConfig, world: World, tell: Tell) -> RunConfig:
    """Compile where it pays, wrap for several processes. Returns the config with what was decided."""
    device = trainer.precision.device
    wanted = config.train.compile
    if wanted == "auto":
        # Cold compilation takes about a minute; on a CPU it makes a plain GPT slower (0.85 ×).
        wanted = "on" if device.type == "cuda" and config.train.steps >= 1000 else "off"
    if wanted == "on":
        compiled = torch.compile(trainer.model)
        try:
            _one_pass(trainer, compiled, rows=trainer.micro_batch)
            trainer.forward = compiled
        except Exception as error:  # torch.compile fails at the first step, in any way, not at the wrap
            tell(f"torch.compile failed ({type(error).__name__}), going on without it")
            wanted = "off"
    if world.size > 1:
        trainer.forward = DistributedDataParallel(cast(nn.Module, trainer.forward))
    return replace(config, train=replace(config.train, compile=wanted))


def choose_micro_batch(config: RunConfig, model: GPT, world: World) -> int:
    """How many sequences to compute at once: the fastest on a CPU, the most that fit on a GPU.

    Small micro-batches stay in the CPU's caches and re-use memory; large ones keep a GPU busy.
    """
    rows = config.train.batch_size // world.size
    if config.train.micro_batch:
        return min(config.train.micro_batch, rows)
    if rows * config.model.context_length <= 4096:
        return rows
    device = next(model.parameters()).device
    trainer = _MicroTrainer(config, model)
    before = generators.capture(device)
    if device.type == "cuda":
        chosen = trainer.largest(rows)
    else:
        halves = [rows >> k for k in range(rows.bit_length()) if rows % (1 << k) == 0]
        chosen = min(
            (n for n in halves if n * config.model.context_length >= 1024), key=trainer.seconds_a_row
        )
    generators.restore(before, device)
    model.zero_grad(set_to_none=True)
    return world.first(chosen, device)


class _MicroTrainer:
    """Forward and backward on made-up tokens, to see how long they take and whether they fit."""

    def __init__(self, config: RunConfig, model: GPT) -> None:
        device = next(model.parameters()).device
        self.config, self.model, self.device = config, model.train(), device
        self.precision = Precision(device, devices.autocast_dtype(device, config.train.precision))

    def run(self, rows: int) -> None:
        shape = (rows, self.config.model.context_length)
        tokens = torch.randint(self.config.model.vocab_size, shape, device=self.device)
        with self.precision.autocast():
            loss = cross_entropy(self.model(tokens), tokens)
        loss.backward()

    def seconds_a_row(self, rows: int) -> float:
        times = []
        for _ in range(2):  # the first one pays for fresh memory
            started = time.perf_counter()
            self.run(rows)
            times.append(time.perf_counter() - started)
        return min(times) / rows

    def largest(self, rows: int) -> int:
        while rows > 1:
            try:
                self.run(rows)
                return rows
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                rows //= 2
        return rows


def _one_pass(trainer: Trainer, forward: Forward, rows: int) -> None:
    """One forward and backward pass that leaves no trace in gradients or generators."""
    device = trainer.precision.device
    before = generators.capture(device)
    tokens = torch.zeros((rows, trainer.context_length), dtype=torch.long, device=device)
    with trainer.precision.autocast():
        loss = cross_entropy(forward(tokens), tokens)
    loss.backward()
    trainer.optimizer.zero_grad()
    generators.restore(before, device)
