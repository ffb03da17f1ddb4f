"""Weights between a run's checkpoints and a model: which ones, whether they belong together, and into place."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from primer import config as configs
from primer.assets import sha256_of_lines
from primer.errors import DataError, UsageError
from primer.models.config import GPTConfig, TransformerConfig
from primer.models.gpt import GPT
from primer.models.transformer import Transformer
from primer.recipes.config import AnyConfig, TranslationConfig, is_dropout
from primer.recipes.directory import RunDirectory
from primer.recipes.report import Reporter
from primer.recipes.session import Data
from primer.recipes.text import read_tokenizer
from primer.training import checkpoint
from primer.training.distributed import World
from primer.training.loop import Trainer
from primer.training.precision import in_formats
from primer.training.sharding import put


def newest_step(run: RunDirectory, world: World, device: torch.device, report: Reporter) -> int:
    """The step of the newest whole checkpoint; the first process decides, so that all resume from the same one."""
    step = -1
    if world.is_first:
        path = checkpoint.newest(run.checkpoints, report.on_message)
        step = checkpoint.step_of(path) if path else -1
    step = world.first(step, device)
    if step < 0:
        raise DataError(
            "this run has no whole checkpoint to go on from",
            where=str(run.checkpoints),
            hint=f"start it again: primer train {run.path / 'config.toml'}",
        )
    return step


def point_at_best(run: RunDirectory, step: int) -> None:
    """Make `best` say what the checkpoint says: a kill may come between a best checkpoint and its pointer."""
    path = checkpoint.step_directory(run.checkpoints, step)
    if step and path.is_dir() and checkpoint.follow(run.checkpoints, "best") != path:
        checkpoint.point(run.checkpoints, "best", step)


ModelConfig = GPTConfig | TransformerConfig

Which = Literal["best", "latest", "average"]
"""Of a run's checkpoints: the one with the lowest validation loss, the newest, or the mean of the newest ones."""


def model_of(config: ModelConfig) -> GPT | Transformer:
    """The model that a config describes."""
    return Transformer(config) if isinstance(config, TransformerConfig) else GPT(config)


def model_fingerprint(model: ModelConfig) -> str:
    """SHA-256 of all that decides what a model computes: two that differ may well have equal shapes."""
    choices = configs.dotted(configs.to_dict(model))
    return sha256_of_lines(f"{key} = {value!r}" for key, value in choices.items() if not is_dropout(key))


@contextmanager
def understood(saved: checkpoint.Checkpoint) -> Iterator[None]:
    """Say where it is when state.json holds something else than this version writes."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise DataError(
            f"state.json is not one of this version ({type(error).__name__}: {error})",
            where=str(saved.path / "state.json"),
            hint="the version of primer that wrote it",
        ) from error


def check_origin(saved: checkpoint.Checkpoint, data: Data) -> None:
    """Refuse a checkpoint that belongs to another text or another vocabulary."""
    here_now = (
        ("data", "text", data.fingerprint),
        ("tokenizer", "characters", data.tokenizer.fingerprint),
    )
    for name, kind, here in here_now:
        if saved.state[name] != here:
            raise DataError(
                f"the checkpoint was made with other {kind} than the run has now",
                where=str(saved.path),
                hint="put the old text back",
            )


def check_neighbours(saved: checkpoint.Checkpoint, run: RunDirectory, model: ModelConfig) -> None:
    """Refuse a checkpoint that the tokenizer.json or the config.toml beside it does not belong to."""
    if saved.state["tokenizer"] != read_tokenizer(run).fingerprint:
        raise DataError(
            "tokenizer.json is not the one that these weights were trained with",
            where=str(run.tokenizer_file),
            hint="put the old file back: one from another run will not do",
        )
    if saved.state["model"] != model_fingerprint(model):
        raise DataError(
            "config.toml describes another model than the one that these weights belong to",
            where=str(run.path / "config.toml"),
            hint="undo what was changed under [model]",
        )


def restore(trainer: Trainer, saved: checkpoint.Checkpoint) -> None:
    """Put weights, optimizer, mean, stream and generators back."""
    put_weights(trainer.model, saved.model, str(saved.path))  # the mean of the weights, where one was kept
    if trainer.average:
        trainer.average.restore(saved.model, saved.state["averaged"])
    if weights := _under("weights.", saved.optim):
        averaged = {name for name, _ in trainer.model.named_parameters()}
        kept = {name: tensor for name, tensor in saved.model.items() if name not in averaged}
        put_weights(trainer.model, {**kept, **weights}, str(saved.path))
    try:
        trainer.optimizer.load_state_tensors(_under("optim.", saved.optim))
    except DataError as error:
        error.where = str(saved.path / "optim.safetensors")
        raise
    with understood(saved):
        trainer.restore(saved.state)


class _Undrawn(TorchFunctionMode):
    """While this lasts, no random weights are drawn, for a model that gets all of its weights from elsewhere.

    To draw them takes longer than to read them from a file.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        drawing = (
            Tensor.normal_,
            Tensor.uniform_,
            nn.init.normal_,
            nn.init.uniform_,
            nn.init.kaiming_uniform_,
        )
        return None if func in drawing else func(*args, **(kwargs or {}))


def load_model(config: AnyConfig, run: RunDirectory, which: Which, device: torch.device) -> GPT | Transformer:
    """The model of a run's checkpoint, verified. It is made after the file was read, which needs twice its memory."""
    if which == "average" and isinstance(config, TranslationConfig):
        weights, where = mean_of_checkpoints(config, run)
    else:
        saved = read_checkpoint(run, which, config.model)
        weights, where = saved.model, str(saved.path)
    with _Undrawn():
        model = model_of(config.model)
    in_formats(model, config.precision)
    put_weights(model, weights, where)
    return model.to(device)


def mean_of_checkpoints(
    config: TranslationConfig, run: RunDirectory, until: int | None = None
) -> tuple[dict[str, Tensor], str]:
    """The mean of the weights of the newest `translate.checkpoints` checkpoints: Vaswani et al. 2017, §6.1.

    Those count that are `train.checkpoint_every` steps apart, and the last one: what was saved in between, because
    someone stopped the run, is not among them, so that a run that was resumed has the same mean. Also says where from.
    until: as if the run had ended with this step.
    """
    newest = read_checkpoint(run, "latest" if until is None else until, config.model)
    last, apart = checkpoint.step_of(newest.path), config.train.checkpoint_every
    regular = [
        path
        for path in checkpoint.every(run.checkpoints)
        if 0 < checkpoint.step_of(path) < last and checkpoint.step_of(path) % apart == 0
    ]
    others = regular[-(config.translate.checkpoints - 1) :] if config.translate.checkpoints > 1 else []
    mean = newest.model
    for number, path in enumerate(others, start=2):
        saved = checkpoint.load(path, to_train=False)
        checkpoint.match(saved.model, mean, str(path))
        for name, tensor in mean.items():
            tensor.lerp_(saved.model[name], 1 / number)
    return mean, str(newest.path)


def read_checkpoint(run: RunDirectory, which: Which | int, model: ModelConfig) -> checkpoint.Checkpoint:
    """The checkpoint of a step, or that a pointer names, verified, and that the tokenizer and `model` are its own.

    Without the optimizer's state.
    """
    path: Path | None
    if isinstance(which, int):
        path = checkpoint.step_directory(run.checkpoints, which)
    else:
        path = checkpoint.follow(run.checkpoints, which) or checkpoint.newest(run.checkpoints)
    if path is None:
        raise DataError(
            "this run has no checkpoint yet", where=str(run.path), hint="another run: primer runs list"
        )
    saved = checkpoint.load(path, to_train=False)
    with understood(saved):
        check_neighbours(saved, run, model)
    return saved


def adopt_weights(model: nn.Module, config: ModelConfig, run: RunDirectory) -> None:
    """Start from another run's weights, of the same vocabulary and sizes; the context alone may be shorter.

    Of learned positions the first ones are then taken. What was counted is this run's text.
    """
    saved = read_checkpoint(run, "best", run.read_config().model)
    counted = {name: table for name, table in model.state_dict().items() if name.startswith("counts.")}
    weights = {**saved.model, **counted}
    context = config.context_length
    for positions in {"position_embedding.weight", "embedding.positions.weight"} & weights.keys():
        if len(weights[positions]) < context:
            raise UsageError(
                f"model.context_length={context} is more than the {len(weights[positions])} positions that "
                "the run to start from has learned",
                where=str(run.path),
                hint=f"--model.context-length={len(weights[positions])}",
            )
        weights[positions] = weights[positions][:context]
    try:
        put_weights(model, weights, str(saved.path))
    except DataError as error:
        raise of_another_size(config, run) or error from error


def of_another_size(wanted: ModelConfig, run: RunDirectory) -> UsageError | None:
    """The error for sizes that were asked for and are not those of the run to start from, if there are such."""
    theirs = configs.dotted(configs.to_dict(run.read_config().model))
    different = {
        key: (value, theirs[key])
        for key, value in configs.dotted(configs.to_dict(wanted)).items()
        if value != theirs[key] and key != "context_length" and not is_dropout(key)
    }
    if not different:
        return None
    named = ", ".join(f"model.{key}={ours!r} (there {other!r})" for key, (ours, other) in different.items())
    return UsageError(
        f"the weights to start from are another model's: {named}",
        str(run.path),
        "leave " + ", ".join(f"--model.{key.replace('_', '-')}" for key in different) + " out",
    )


@torch.no_grad()
def put_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into a model that has exactly these."""
    if (
        isinstance(model, GPT) and model.counts is not None
    ):  # how many n-grams there are is known to the checkpoint alone
        model.counts.adopt(_under("counts.", weights))
    own = checkpoint.weights_of(model)
    checkpoint.match(dict(weights), own, where)
    for name, tensor in own.items():
        put(tensor, weights[name])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
