"""The training loop. A step is one sentence: batch → loss → gradients → clip → optimizer.

The loop knows nothing of recipes, text or files beyond what it is handed: `Hands` evaluates, samples, reports
and saves; `Trainer` holds everything that changes from step to step, and can give it away and take it back.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from primer.data.batches import BatchStream, Learnable, Piece, Stream
from primer.errors import DivergedError
from primer.training import generators
from primer.training.average import WeightAverage
from primer.training.config import LoopConfig
from primer.training.distributed import World
from primer.training.optim import Optimizer, clip_grad_norm
from primer.training.precision import Precision
from primer.training.sharding import is_sharded, local

Part = Callable[[int, int], bool]
"""Called with how many micro-batches of a step are computed, and how many there are: whether to go on."""

Forward = Callable[..., Tensor]
"""Token ids in, logits (B, T, V) out, or the loss where `targets` are given."""


@runtime_checkable
class Hands(Protocol):
    """What the loop may ask of whoever runs it."""

    def evaluate(self, step: int) -> dict[str, Any] | None:
        """Score the model on validation text; `val_loss` is one of the keys. None: broken off, an end was asked for."""

    def sample(self, step: int) -> None:
        """Let the model write something."""

    def save(self, step: int, *, best: bool) -> None:
        """Write a checkpoint."""

    def record(self, row: dict[str, Any]) -> None:
        """Keep a row of metrics."""

    def stopping(self) -> bool:
        """Whether someone asked for an end. Asked after every step."""

    def part(self, done: int, total: int) -> bool:
        """So many of a step's micro-batches are computed. False: the rest is not worth waiting for, drop the step."""


@dataclass
class Progress:
    """Where the run stands, as plain numbers."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_loss: float = math.inf
    best_step: int = 0
    bad_steps: int = 0
    looked: int = 0
    """The last step after which the model was evaluated and sampled, as far as either was due."""


@dataclass
class Trainer:
    """Everything that a step needs, and everything that it changes."""

    model: nn.Module
    optimizer: Optimizer
    stream: Stream
    config: LoopConfig
    schedule: Callable[[int], float]
    places: int
    """Places of a batch that are computed at once: gradients accumulate over them."""
    shape: Callable[[int], tuple[int, int]] | None = None
    """Of windows, by step: how many, and how long."""
    clip: float = 0.0
    precision: Precision = field(default_factory=lambda: Precision(torch.device("cpu")))
    world: World = field(default_factory=World)
    average: WeightAverage | None = None
    forward: Forward = field(init=False)
    """What is called instead of `model`: the same, compiled or wrapped for several processes."""
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.scaler = self.precision.scaler()
        self.forward = self.model

    def step(self, part: Part = lambda done, total: True) -> dict[str, Any] | None:
        """Take one optimizer step; returns its row of metrics, or None where `part` broke it off.

        A loss or gradient that is not finite leaves the weights as they are and counts as a bad step. After a step that
        was broken off everything is as it was before.
        """
        device = self.precision.device
        before = self.stream.state(), generators.capture(device)
        if self.shape:
            cast(BatchStream, self.stream).reshape(*self.shape(self.progress.step))
        batch = self.stream.next()
        loss = self.accumulate(batch, part)
        if loss is None:
            self.optimizer.zero_grad()
            self.stream.restore(before[0])
            generators.restore(before[1], device)
            return None
        norm = clip_grad_norm(self.parameters, self.clip or math.inf)
        loss_value, norm_value = float(self.world.mean(loss)), float(norm)
        factor = self.schedule(self.progress.step)
        finite = math.isfinite(loss_value) and math.isfinite(norm_value)
        if finite:
            self.optimizer.step(factor)
            self.precision.round_weights(self.parameters, self.progress.step + 1)
            if self.average:
                self.average.update(self.model)
        self.optimizer.zero_grad()
        self.progress.step += 1
        targets = batch.tokens(self.world.size)
        self.progress.tokens += targets
        self.progress.bad_steps = 0 if finite else self.progress.bad_steps + 1
        return {
            "targets": targets,
            "loss": loss_value,
            "grad_norm": norm_value,
            "lr_factor": factor,
            "applied": finite,
        }

    def accumulate(self, batch: Learnable, part: Part = lambda done, total: True) -> Float[Tensor, ""] | None:
        """Gradients of the mean loss over the batch, a micro-batch at a time; returns that loss.

        part: asked before each whether to go on; where it says no, None is returned.
        """
        device = self.precision.device
        pieces = batch.pieces(self.places, device, self.world.size)
        total = torch.zeros((), device=device)
        for number, piece in enumerate(pieces):
            if not part(number, len(pieces)):
                return None
            with self.in_step(last=number == len(pieces) - 1):
                with self.precision.autocast():
                    loss = self.forward(
                        *piece.inputs,
                        targets=piece.targets,
                        label_smoothing=self.config.label_smoothing,
                        **self.origins(piece),
                    )
                (loss * piece.share * self.scale()).backward()
            self.precision.round_gradients(self.parameters)
            total += loss.detach() * piece.share
        self.unscale()
        return total

    def finite(self) -> bool:
        """Whether every weight is a finite number; a device is waited for once."""
        wrong = ~torch.stack([torch.isfinite(local(p)).all() for p in self.parameters]).all()
        return not bool(self.over_slices(wrong.float()))

    def origins(self, piece: Piece) -> dict[str, Tensor]:
        """Counted n-grams must know which part of the training text a row is, to leave it out."""
        if piece.starts is None or getattr(self.model, "counts", None) is None:
            return {}
        return {"starts": piece.starts}

    def over_slices(self, count: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """What was counted in this process's slices of the model, added up over all of them."""
        return self.world.total(count) if is_sharded(self.model) else count

    def in_step(self, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Several processes exchange gradients once a step, with the last micro-batch."""
        if isinstance(self.forward, DistributedDataParallel) and not last:
            return self.forward.no_sync()
        if is_sharded(self.model):
            self.model.set_requires_gradient_sync(last)  # type: ignore[operator]  # FSDP gives it to the model
        return contextlib.nullcontext()

    def scale(self) -> float:
        """What the loss is multiplied by, where its gradients would be too small for their format; 1 otherwise."""
        return self.scaler.scale if self.scaler else 1.0

    def unscale(self) -> None:
        """Divide the gradients by the loss's scale, and adapt that to whether they overflowed."""
        if not self.scaler:
            return
        grads = [local(p.grad) for p in self.parameters if p.grad is not None]
        torch._foreach_mul_(grads, 1.0 / self.scaler.scale)
        wrong = ~torch.stack([torch.isfinite(grad).all() for grad in grads]).all()
        self.scaler.update(overflow=bool(self.over_slices(wrong.float())))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights, where the config keeps an average."""
        with self.average.in_place(self.model) if self.average else contextlib.nullcontext():
            yield

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside tensors; every process must call this together."""
        return {
            "progress": vars(self.progress).copy(),
            "stream": self.stream.state(),
            "generators": generators.capture_all(self.precision.device, self.world),
            "scaler": vars(self.scaler).copy() if self.scaler else None,
            "averaged": self.average.updates if self.average else 0,
            "threads": torch.get_num_threads(),
            "world_size": self.world.size,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.progress = Progress(**state["progress"])
        self.stream.restore(state["stream"])
        generators.restore_mine(state["generators"], self.precision.device, self.world)
        if self.scaler and state["scaler"]:
            self.scaler.restore(state["scaler"])


def fit(trainer: Trainer, hands: Hands) -> bool:
    """Train to the last step; False where someone asked for an end before it. Saves then, and on the way.

    Whoever asks for an end gets it after the step, or within one that would take long, which is then dropped;
    evaluating and sampling wait until the run goes on.

    What is not sound is never saved: it would push out what was. DivergedError where too many steps in a row, or the
    last one, are not.
    """
    config, progress = trainer.config, trainer.progress
    trainer.model.train()
    if progress.looked < progress.step:  # it was stopped before it was looked at
        best = look(trainer, hands)
        if best is None:
            return False
        hands.save(progress.step, best=best)
    saved, saved_at, healthy = progress.step, time.monotonic(), True
    while progress.step < config.steps:
        started = time.perf_counter()
        row = trainer.step(hands.part)
        if row is None:
            if progress.step > saved and healthy and trainer.finite():
                hands.save(progress.step, best=False)
            return False
        seconds = time.perf_counter() - started
        progress.seconds += seconds
        step, last = progress.step, progress.step == config.steps
        if step % config.log_every == 0 or last or not row["applied"]:
            hands.record(
                {"step": step, "tokens": progress.tokens, "seconds": progress.seconds, "took": seconds, **row}
            )
        stopping = hands.stopping()
        waited = trainer.world.first(int(time.monotonic() - saved_at), trainer.precision.device)
        due = step % config.checkpoint_every == 0 or 0 < 60 * config.checkpoint_minutes <= waited
        saving = is_due(config.evaluate_every, trainer) or stopping or due
        healthy = math.isfinite(row["loss"])
        sound = healthy and (not saving or trainer.finite())
        if progress.bad_steps >= config.patience or (last and not sound):
            times = f"{progress.bad_steps} steps in a row" if progress.bad_steps > 1 else "at the last step"
            raise DivergedError(
                f"the loss or its gradient was not finite {times}",
                where=f"step {step}",
                hint=f"a smaller --optim.lr, a longer --schedule.warmup, or {trainer.precision.longer()}",
            )
        best = None if stopping else look(trainer, hands, sound=sound)
        stopping = best is None
        if sound and (best or last or stopping or due):
            hands.save(step, best=bool(best))
            saved, saved_at = step, time.monotonic()
        if stopping:
            return False
    return True


def look(trainer: Trainer, hands: Hands, *, sound: bool = True) -> bool | None:
    """Evaluate and sample where they are due. Whether this is the best score so far; None where it was broken off."""
    config, progress = trainer.config, trainer.progress
    best = False
    if is_due(config.evaluate_every, trainer):
        scores = hands.evaluate(progress.step)
        if scores is None:
            return None
        best = sound and keep_best(progress, scores)
    if is_due(config.sample_every, trainer):
        hands.sample(progress.step)
    progress.looked = progress.step
    return best


def is_due(every: int, trainer: Trainer) -> bool:
    """Whether what happens every so many steps, and after the last one, happens now. 0: never."""
    step = trainer.progress.step
    return every > 0 and (step % every == 0 or step == trainer.config.steps)


def keep_best(progress: Progress, scores: dict[str, Any]) -> bool:
    """Whether this evaluation is the best so far; remembers it if so."""
    if not scores["val_loss"] < progress.best_loss:  # which a NaN never is
        return False
    progress.best_loss, progress.best_step = scores["val_loss"], progress.step
    return True
