"""One run, as one frozen value: everything that a person can choose. Fed back, it reproduces the run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from primer.errors import UsageError
from primer.generation.config import BeamConfig, Sampling
from primer.models.config import GPTConfig, TransformerConfig
from primer.training.config import (
    OptimConfig,
    PairTrainConfig,
    PrecisionConfig,
    ScheduleConfig,
    TrainConfig,
)

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


PLACES = ("source", "target", "validation_source", "validation_target")
"""The keys of `DataConfig` and `PairsConfig` that say where a text lies: it may be moved, as long as it is the same."""


def is_dropout(key: str) -> bool:
    """Whether a key of `GPTConfig` changes how a model is trained, but not what it computes."""
    return key.endswith("dropout")


def title(config: AnyConfig) -> str:
    """What a run is called: its recipe, or its text where that is what sets it apart."""
    usual = config.recipe == "default" and config.data.source != "python-docs"
    return Path(config.data.source).name if usual else config.recipe


@dataclass(frozen=True)
class RunConfig:
    """A whole training run."""

    kind: Literal["language"] = "language"
    """What the model is for: to go on with a text."""
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
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)

    def __post_init__(self) -> None:
        _check(self)
        if self.train.short_context > self.model.context_length:
            raise UsageError(
                f"train.short_context={self.train.short_context} is longer than "
                f"model.context_length={self.model.context_length}",
                hint="--train.short-context=0",
            )


def _check(config: AnyConfig) -> None:
    """What no training can do."""
    schedule, train, seed = config.schedule, config.train, config.seed
    if config.precision.optimizer and config.optim.name != "adamw":
        raise UsageError(
            f"precision.optimizer={config.precision.optimizer} is for AdamW, and optim.name is {config.optim.name}",
            hint="--optim.name=adamw",
        )
    if schedule.warmup > train.steps:
        raise UsageError(
            f"schedule.warmup={schedule.warmup} is longer than the run (train.steps={train.steps})",
            hint=f"--schedule.warmup={train.steps // 10}",
        )
    if not 0 <= seed < 1 << 62:
        raise UsageError(f"seed must lie between 0 and 2^62, got {seed}")


@dataclass(frozen=True)
class PairsConfig:
    """Which parallel text, and how it becomes pairs of ids."""

    source: str = "dates"
    """A named text (dates, multi30k); or the file of the source language, beside `target`; or a file that holds both
    (.tsv, .jsonl, .po, .mo); or a folder of files named train, val and test."""
    target: str = ""
    """The file of the target language, line by line beside `source`."""
    source_field: str = ""
    """Where a .jsonl or .tsv file keeps the source; in a folder, the language of its source files (en)."""
    target_field: str = ""
    """Where it keeps the target; in a folder, the language of its target files (de)."""
    validation_source: str = ""
    """A file for the validation part, where it is not a share of the text. As `source`."""
    validation_target: str = ""
    """As `target`, of the validation part."""
    swap: bool = False
    """Translate the other way: the target becomes the source."""
    tokenizer: str = "bpe"
    """bpe: learned from both languages together (byte-level). Else a name or a file of `primer tokenizer train`."""
    vocab_size: int = 8192
    """Tokens of the vocabulary that is learned, at most."""
    validation_fraction: float = 0.05
    """The share of the pairs that is kept away from training, where the text has no validation part of its own."""
    encoding: str = "utf-8"
    """How the files' bytes become characters."""
    encoding_errors: Literal["strict", "replace", "ignore"] = "strict"
    """Bytes that are no text: stop and name the offset, put U+FFFD in their place, or drop them."""

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise UsageError(
                f"data.validation_fraction must lie between 0 and 1, got {self.validation_fraction}"
            )
        if self.vocab_size < LEAST_VOCABULARY:
            raise UsageError(
                f"data.vocab_size must be at least {LEAST_VOCABULARY} (256 bytes and the end of a text), "
                f"got {self.vocab_size}"
            )


LEAST_VOCABULARY = 257


@dataclass(frozen=True)
class TranslateConfig:
    """How a trained model translates: Vaswani et al. 2017, §6.1."""

    beam: int = 4
    """Hypotheses that are followed at once; 1 is greedy."""
    length_penalty: float = 0.6
    """α of Wu et al. 2016, eq. 14: how much a longer translation is forgiven its lower probability."""
    extra_length: int = 50
    """A translation has so many tokens more than its source at most."""
    checkpoints: int = 1
    """The weights are the mean of so many of the newest checkpoints that are `train.checkpoint_every` steps apart."""

    def __post_init__(self) -> None:
        if self.checkpoints < 1:
            raise UsageError(f"translate.checkpoints must be at least 1, got {self.checkpoints}")
        _ = self.search

    @property
    def search(self) -> BeamConfig:
        """How a translation is searched for."""
        return BeamConfig(self.beam, self.length_penalty, self.extra_length)


@dataclass(frozen=True)
class TranslationConfig:
    """A whole training run of an encoder–decoder."""

    kind: Literal["translation"] = "translation"
    """What the model is for: to make one sentence of another."""
    recipe: str = "translation"
    """The recipe that this run began from."""
    about: str = ""
    """One line: what the recipe is for."""
    needs_weights: bool = False
    """Whether it is of no use without the weights of another run (`--init-from`)."""
    seed: int = 1337
    """Of initialisation, batches and dropout."""
    model: TransformerConfig = field(default_factory=TransformerConfig)
    data: PairsConfig = field(default_factory=PairsConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    train: PairTrainConfig = field(default_factory=PairTrainConfig)
    precision: PrecisionConfig = field(default_factory=PrecisionConfig)
    translate: TranslateConfig = field(default_factory=TranslateConfig)

    def __post_init__(self) -> None:
        _check(self)
        if self.translate.checkpoints > self.train.keep:
            raise UsageError(
                f"translate.checkpoints={self.translate.checkpoints} is more than a run keeps "
                f"(train.keep={self.train.keep})",
                hint=f"--train.keep={self.translate.checkpoints}",
            )


AnyConfig = RunConfig | TranslationConfig
"""The choices of a run, of whatever kind."""

KINDS: dict[str, type[RunConfig] | type[TranslationConfig]] = {
    "language": RunConfig,
    "translation": TranslationConfig,
}


def as_language(config: AnyConfig) -> RunConfig:
    """The config of a language model; UsageError where it is another kind's."""
    if not isinstance(config, RunConfig):
        raise UsageError(
            f"{config.recipe} is an encoder–decoder: it translates a sentence, and does not go on with a text",
            hint='primer translate RUN "a sentence"; Run.evaluate_pairs() in Python',
        )
    return config


def as_translation(config: AnyConfig) -> TranslationConfig:
    """The config of an encoder–decoder; UsageError where it is another kind's."""
    if not isinstance(config, TranslationConfig):
        raise UsageError(
            f"{config.recipe} is a language model: it goes on with a text, and does not translate",
            hint='primer sample RUN "a beginning", or a run of primer train dates',
        )
    return config


def config_class(kind: object) -> type[RunConfig] | type[TranslationConfig]:
    """The class of the config of a kind of run, as its `kind` says. UsageError for an unknown one."""
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}", hint=" or ".join(f'kind = "{name}"' for name in KINDS))
    return KINDS[kind]
