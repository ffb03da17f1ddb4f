"""What the program chooses by measuring: micro-batch, attention, compiled or not, the steps that fit into some minutes.

Every choice is written into the run's config, and replayed when it is resumed.
"""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from primer import device as devices
from primer.data.batches import Piece
from primer.errors import SurroundingsError, UsageError
from primer.kernels.attention import IMPLEMENTATIONS, Implementation
from primer.kernels.attention.choice import Kind, failure, working
from primer.models.count import SENTENCE
from primer.models.gpt import GPT
from primer.nn.attention import train_by
from primer.recipes.config import LEAST_STEPS, AnyConfig, RunConfig, TranslationConfig
from primer.recipes.plan import SMALL_BATCH, candidates, rows_at_once, training_bytes
from primer.training import generators
from primer.training.distributed import World
from primer.training.loop import Forward, Trainer
from primer.training.precision import Precision, compiles
from primer.training.sharding import is_sharded

Tell = Callable[[str], None]
C = TypeVar("C", bound=RunConfig | TranslationConfig)

ROOM = 0.6
"""The share of the memory that weights, gradients and moments may take before they are sharded."""
ALL = 0.95
"""The share of a machine's memory that anything may take: the rest is the system's and the program's own."""
ONLY_ON = {"cpu": "cpu", "gpu": "cuda", "library_cudnn": "cuda", "library_efficient": "cuda"}
"""Implementations of attention that one kind of device has."""
PATIENCE = 4.0
"""Seconds: a CPU that needs longer for a forward and backward pass would not gain by a larger one."""


def accelerate(trainer: Trainer, config: C, world: World, tell: Tell) -> C:
    """Choose attention's implementation, compile where it pays, wrap for several processes.

    Returns the config with what was decided.
    """
    config = fastest_attention(trainer, config, world)
    device, wanted = trainer.precision.device, config.train.compile
    # Cold compilation takes about a minute, and on a CPU it makes a plain GPT slower (0.85 ×): not tried unasked.
    # Batches of pairs come in hundreds of shapes, each of which would be compiled: only where it is asked for.
    long = config.train.steps >= 1000 and trainer.shape is not None
    can = compiles(config.precision, device)
    if wanted == "on" and not can:
        tell("torch.compile does not see through emulated formats, going on without it")
        wanted = "off"
    worth_trying = device.type == "cuda" and long and can
    if wanted == "on" or (wanted == "auto" and worth_trying):
        compiled = compiled_model(trainer, must_pay=wanted == "auto", tell=tell)
        wanted = "on" if world.first(int(compiled is not None), device) else "off"
        if compiled is not None and wanted == "on":
            trainer.forward = compiled
    if world.size > 1 and not is_sharded(trainer.model):
        trainer.forward = DistributedDataParallel(cast(nn.Module, trainer.forward))
    return with_train(config, compile="on" if wanted == "on" else "off")


def usable_attention(
    config: AnyConfig, model: nn.Module, device: torch.device, tell: Tell | None = None
) -> None:
    """Tell the model which implementation of attention trains it, if that can be done on this device.

    Another that was asked for is an error. With `tell`, as where a run goes on with what was once chosen for it, `auto`
    trains for now, and that is said; the config keeps the name.
    """
    wanted = config.train.attention
    why = "" if wanted == "auto" else cannot(wanted, config, device)
    if why and tell is None:
        cause = f"train.attention={wanted} cannot train this model here: {why}"
        raise SurroundingsError(cause, where=str(device), hint="--train.attention=auto")
    if why and tell:
        tell(f"train.attention={wanted} cannot train this model here ({why}), going on with auto")
    train_by(model, "auto" if why else wanted)


def cannot(name: Implementation, config: AnyConfig, device: torch.device) -> str:
    """Why an implementation does not compute what a model's layers ask for; nothing, if it does, as far as tried."""
    only = ONLY_ON.get(name, device.type)
    if only != device.type:
        return f"it is for {only}"
    if not isinstance(config, RunConfig):  # an encoder–decoder's layers ask for different things
        return ""
    return failure(name, IMPLEMENTATIONS[name], kind_of_attention(config, device))


def kind_of_attention(config: RunConfig, device: torch.device) -> Kind:
    """What every layer of a language model asks of attention while it is trained."""
    model = config.model
    return Kind(
        device=str(device),
        dtype=devices.autocast_dtype(device, config.train.precision) or torch.float32,
        width=model.d_head,
        v_width=model.d_head,
        group=model.n_heads // model.kv_heads,
        causal=True,
        dropout=model.pattern_dropout > 0,
        trained=True,
    )


def fastest_attention(trainer: Trainer, config: C, world: World) -> C:
    """The config with the implementation of attention that trains a language model fastest, if it is a GPU that does.

    A model whose weights are shared out is not tried: what fails in one process only would leave the others waiting.
    """
    device = trainer.precision.device
    if config.train.attention != "auto" or not isinstance(config, RunConfig) or is_sharded(trainer.model):
        return config
    names = get_args(Implementation)
    seconds = {name: _seconds_by(trainer, name) for name in to_try(config, device)}
    best = min(seconds, key=lambda name: seconds[name], default="auto")
    chosen = names[world.first(names.index(best), device)]
    train_by(trainer.model, chosen)
    return with_train(config, attention=chosen)


def to_try(config: RunConfig, device: torch.device) -> list[Implementation]:
    """On a GPU what works there, as `auto` finds it; on a CPU nothing, for there a call's size decides."""
    if device.type != "cuda":
        return []
    return cast(list[Implementation], [*working(kind_of_attention(config, device), IMPLEMENTATIONS)])


def _seconds_by(trainer: Trainer, name: Implementation) -> float:
    """Seconds of a pass where attention is computed so; forever, if it fails at the model's size."""
    train_by(trainer.model, name)
    try:
        return _seconds_of_passes(trainer, cast(Forward, trainer.model))
    except Exception:  # Triton's errors are of no common kind
        if trainer.precision.device.type == "cuda":
            torch.cuda.empty_cache()
        return math.inf


def compiled_model(trainer: Trainer, *, must_pay: bool, tell: Tell) -> Forward | None:
    """The model, compiled; None, and a word, where that fails or (if it must pay) makes no step faster."""
    compiled = torch.compile(trainer.model)
    try:
        seconds = _seconds_of_passes(trainer, compiled)
    except Exception as error:  # torch.compile fails at the first step, in any way, not at the wrap
        tell(f"torch.compile failed ({type(error).__name__}), going on without it")
        return None
    if must_pay and seconds >= _seconds_of_passes(trainer, trainer.model):
        tell("torch.compile makes this model no faster, going on without it")
        return None
    return cast(Forward, compiled)


def with_train(config: C, **changes: Any) -> C:
    """The config with other values under [train]."""
    train: Any = replace(config.train, **changes)
    return replace(config, train=train)


def require_memory(config: AnyConfig, device: torch.device, world: World) -> None:
    """SurroundingsError for a model whose weights, gradients and moments alone take (almost) all the memory there is.

    Activations are an estimate, and a system may swap: what might just fit is tried.
    """
    here = devices.all_memory(device)
    sharers = world.local_size if device.type == "cpu" else 1
    shared = world.size if config.train.parallel == "fsdp" else 1
    needed = training_bytes(config, 0, device.type).total * sharers // shared
    if here and needed > ALL * here:
        raise SurroundingsError(
            f"this model needs {needed / 1e9:.1f} GB for its weights, gradients and optimizer alone, "
            f"and there are {here / 1e9:.1f} GB",
            where=str(device),
            hint="a smaller model, or --train.parallel=fsdp on several devices",
        )


def choose_parallel(config: C, device: torch.device, world: World) -> C:
    """The config with how several processes share the model: each its own copy, unless that leaves too little room."""
    if world.size == 1 or config.train.parallel != "auto":
        return config
    state = training_bytes(config, 0, device.type).total  # without activations
    short = state > ROOM * devices.free_memory(device) / (world.local_size if device.type == "cpu" else 1)
    chosen: Literal["ddp", "fsdp"] = "fsdp" if world.first(int(short), device) else "ddp"
    return with_train(config, parallel=chosen)


def choose_micro_batch(config: RunConfig, model: GPT, world: World) -> int:
    """How many sequences to compute at once: the fastest on a CPU, the most that fit on a GPU, with memory to spare.

    Small micro-batches stay in the CPU's caches and re-use memory; large ones keep a GPU busy.
    """
    rows = config.train.batch_size // world.size
    if config.train.micro_batch:
        return min(config.train.micro_batch, rows)
    if rows * config.model.context_length <= SMALL_BATCH:
        return rows
    device = next(model.parameters()).device
    if is_sharded(model):  # processes that measured for themselves would not stay together
        return world.first(rows_at_once(config, device.type, rows), device)
    trainer = _MicroTrainer(config, model)
    before = generators.capture(device)
    memory = devices.free_memory(device)
    if device.type == "cuda":
        chosen = trainer.largest(candidates(config, rows, memory, device.type))
    else:
        chosen = trainer.fastest(candidates(config, rows, memory // world.local_size))
    generators.restore(before, device)
    model.zero_grad(set_to_none=True)
    return world.first(chosen, device)


def fit_into_minutes(
    config: C, model: nn.Module, trainer_of: Callable[[nn.Module], Trainer], world: World, tell: Tell
) -> C:
    """The config with as many steps as `train.minutes` allows here, and never more than `train.steps`.

    A few steps are taken on a copy of the model, with short windows and with full ones, and forgotten.
    """
    train = config.train
    if not train.minutes:
        return config
    if is_sharded(model):
        raise UsageError("train.minutes needs the whole model on each device", hint="--train.steps=N")
    device = next(model.parameters()).device
    before = generators.capture(device)
    trainer = trainer_of(copy.deepcopy(model))
    seconds = full = seconds_of_a_step(trainer, at=train.steps - 1)
    if isinstance(config, RunConfig):
        until = config.train.short_until
        seconds = until * seconds_of_a_step(trainer, at=0) + (1 - until) * full
    generators.restore(before, device)
    steps = world.first(max(LEAST_STEPS, int(train.minutes * 60 / seconds)), device)
    if steps >= train.steps:
        return with_train(config, minutes=0.0)
    tell(f"{steps} of {train.steps} steps: as many as fit into train.minutes={train.minutes:g} here")
    schedule = config.schedule.fitting(steps)
    if schedule != config.schedule:
        tell(f"schedule.warmup={schedule.warmup} instead of {config.schedule.warmup}: a tenth of them")
    shorter: Any = replace(train, minutes=0.0, steps=steps)
    return replace(config, train=shorter, schedule=schedule)


def seconds_of_a_step(trainer: Trainer, at: int) -> float:
    """The slower of two steps as they are taken at one place of the schedule."""
    times = []
    for _ in range(3):
        trainer.progress.step = at
        started = time.perf_counter()
        trainer.step()
        devices.synchronize(trainer.precision.device)
        times.append(time.perf_counter() - started)
    return max(times[1:])  # the first one pays for fresh memory


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
            loss = self.model(tokens, targets=tokens)
        loss.backward()

    def seconds_a_row(self, rows: int) -> float:
        started = time.perf_counter()
        self.run(rows)
        devices.synchronize(self.device)
        return (time.perf_counter() - started) / rows

    def fastest(self, rows: list[int]) -> int:
        """Of some numbers of rows, the one that takes least time a row; none is tried after one that takes long.

        Each is tried twice, in turns: the first pays for fresh memory, and what else a machine does hits all of them.
        """
        seconds: dict[int, float] = {}
        for n in rows:
            seconds[n] = self.seconds_a_row(n)
            if n * seconds[n] > PATIENCE:
                break
        again = {n: self.seconds_a_row(n) for n in seconds}
        return min(seconds, key=lambda n: min(seconds[n], again[n]))

    def largest(self, rows: list[int]) -> int:
        """The most of some numbers of rows that fit: an estimate has chosen these, and this device decides."""
        return next((n for n in reversed(rows) if self.fits(n)), rows[0])

    def fits(self, rows: int) -> bool:
        try:
            self.run(rows)
        except torch.OutOfMemoryError:
            return False
        finally:
            self.model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
        return True


def _shapes(trainer: Trainer) -> set[tuple[int, int]]:
    """Rows and length of every micro-batch of the run: short windows first, where the config asks for them."""
    if trainer.shape is None:
        return {(max(1, trainer.places // SENTENCE), SENTENCE)}
    lengths = {trainer.shape(step)[1] for step in (0, trainer.config.steps - 1)}
    return {(max(1, trainer.places // length), length) for length in lengths}


def _seconds_of_passes(trainer: Trainer, forward: Forward) -> float:
    """Seconds of a forward and a backward pass in each shape, compiled by then. Leaves no trace."""
    device = trainer.precision.device
    before = generators.capture(device)
    seconds = 0.0
    try:
        for shape in _shapes(trainer):
            tokens = torch.zeros(shape, dtype=torch.long, device=device)
            seconds += min([_seconds_of_a_pass(trainer, forward, tokens) for _ in range(3)][1:])
    finally:
        trainer.optimizer.zero_grad()
        generators.restore(before, device)
    return seconds


def _seconds_of_a_pass(trainer: Trainer, forward: Forward, tokens: Tensor) -> float:
    started = time.perf_counter()
    inputs = (tokens,) if trainer.shape else (tokens, tokens)  # an encoder–decoder reads two languages
    with trainer.precision.autocast():
        loss = forward(*inputs, targets=tokens, **trainer.origins(Piece(inputs, tokens, 1.0, tokens[:, 0])))
    loss.backward()
    devices.synchronize(trainer.precision.device)
    return time.perf_counter() - started
