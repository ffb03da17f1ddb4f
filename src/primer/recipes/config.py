"""One run, as one frozen value: everything that a person can choose. Fed back, it reproduces the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from primer.errors import UsageError
from primer.generation.config import Sampling
from primer.models.config import GPTConfig
from primer.training.config import OptimConfig, ScheduleConfig, TrainConfig

LEAST_STEPS = 20
"""With `train.minutes`: fewer steps than this are no training, however slow the machine is."""


@dataclass(frozen=True)
class DataConfig:
    """Which text, and how it becomes tokens and batches."""

    source: str = "python-docs"
    """A named source (python-docs, shakespeare), or a .txt, .md, .jsonl or .parquet file, or a folder of them; or a
    folder of tokens: what primer prepare made, or .bin or .npy files named train and val, as others publish them."""
    tokenizer: str = "char"
    """char, byte, gpt2 (its byte-level BPE), or a tokenizer of your own: a file of `primer tokenizer train`."""
    validation_fraction: float = 0.1
    """The last part of the text, kept away from training."""
    order: Literal["epochs", "random", "documents"] = "epochs"
    """epochs: every window once, shuffled, before any comes again. random: with replacement, as the lecture does.
    documents: as epochs, of windows that begin where a document does; what lies between them is left out."""
    unknown: Literal["error", "skip"] = "error"
    """A character that the tokenizer has never seen: stop and name it, or drop it and say how many."""
    encoding: str = "utf-8"
    """How the files' bytes become characters."""
    encoding_errors: Literal["strict", "replace", "ignore"] = "strict"
    """Bytes that are no text: stop and name the offset, put U+FFFD in their place, or drop them."""
    field: str = "text"
    """Where a .jsonl or .parquet file keeps its text: a key, a column."""

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise UsageError(
                f"data.validation_fraction must lie between 0 and 1, got {self.validation_fraction}"
            )


@dataclass(frozen=True)
class SampleConfig:
    """What the model writes while it trains."""

    prompt: str = ""
    """What it continues. Empty: the beginning of a text (after the end-of-text token, else after a new line)."""
    tokens: int = 300
    """How many tokens it writes."""
    temperature: float = 0.8
    """Logits are divided by this; 0 always takes the likeliest token."""
    top_k: int = 0
    """Only among the k likeliest. 0: all."""
    top_p: float = 1.0
    """Only among the likeliest that together reach this probability (Holtzman et al. 2020)."""

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise UsageError(f"sample.tokens must be at least 1, got {self.tokens}")
        try:
            _ = self.sampling
        except UsageError as error:
            raise UsageError(f"sample.{error.cause}") from None

    @property
    def sampling(self) -> Sampling:
        """How each token is chosen."""
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


def is_dropout(key: str) -> bool:
    """Whether a key of `GPTConfig` changes how a model is trained, but not what it computes."""
    return key.endswith("dropout")


def title(config: RunConfig) -> str:
    """What a run is called: its recipe, or its text where that is what sets it apart."""
    usual = config.recipe == "default" and config.data.source != "python-docs"
    return Path(config.data.source).name if usual else config.recipe


@dataclass(frozen=True)
class RunConfig:
    """A whole training run."""

    recipe: str = "default"
    """The recipe that this run began from."""
    about: str = ""
    """One line: what the recipe is for."""
    needs_weights: bool = False
    """Whether it is of no use without the weights of another run (`--init-from`)."""
    seed: int = 1337
    """Of initialisation, batches, dropout and samples."""
    model: GPTConfig = field(default_factory=GPTConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)

    def __post_init__(self) -> None:
        if self.schedule.warmup > self.train.steps:
            raise UsageError(
                f"schedule.warmup={self.schedule.warmup} is longer than the run (train.steps={self.train.steps})",
                hint=f"--schedule.warmup={self.train.steps // 10}",
            )
        if self.train.short_context > self.model.context_length:
            raise UsageError(
                f"train.short_context={self.train.short_context} is longer than "
                f"model.context_length={self.model.context_length}",
                hint="--train.short-context=0",
            )
        if not 0 <= self.seed < 1 << 62:
            raise UsageError(f"seed must lie between 0 and 2^62, got {self.seed}")
