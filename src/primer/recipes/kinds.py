"""What a run is of: a language model on a text, or an encoder–decoder on pairs of sentences.

`recipes.run` trains, resumes and keeps a run, and knows nothing of either; this is what it asks.
"""

from typing import Any, Protocol

import torch
from torch import nn

from primer.recipes.config import AnyConfig, RunConfig, TranslationConfig
from primer.recipes.directory import RunDirectory
from primer.recipes.language import Language
from primer.recipes.measure import Tell
from primer.recipes.session import Session
from primer.recipes.translation import Translation
from primer.tokens.tokenizer import Tokenizer
from primer.training.distributed import World
from primer.training.loop import Trainer


class Kind(Protocol):
    """A kind of model, its data and its batches."""

    @property
    def session(self) -> type[Session]:
        """How it is scored and shown while it trains."""

    def prepare(self, config: Any, world: World, tokenizer: Tokenizer | None, tell: Tell) -> Any:
        """The config's text, ready to train on: made by the first process, then opened by the others.

        tokenizer: one that exists already, of the run to start from.
        """

    def reopen(self, config: Any, run: RunDirectory, world: World, moved: bool) -> Any:
        """The text that a run was trained on. DataError where it has changed. moved: `config` says where it is now."""

    def model(self, config: Any, data: Any, device: torch.device) -> nn.Module:
        """The model with fresh weights, which depend on the seed alone."""

    def with_micro_batch(self, config: Any, model: nn.Module, world: World) -> Any:
        """The config with how much is computed at once, as it was measured or estimated."""

    def trainer(self, config: Any, model: nn.Module, data: Any, world: World) -> Trainer:
        """A trainer at step 0."""

    def checked(
        self, config: Any, trainer: Trainer, data: Any, world: World, origins: dict[str, str], tell: Tell
    ) -> Any:
        """The config after it was seen whether its batches can be had from this text; DataError where they cannot."""

    def start_info(self, config: Any, data: Any) -> dict[str, Any]:
        """What a reporter says of the data before the first step."""


LANGUAGE, TRANSLATION = Language(), Translation()


def kind_of(config: AnyConfig) -> Kind:
    """The kind that a config is of."""
    kinds: dict[type[AnyConfig], Kind] = {RunConfig: LANGUAGE, TranslationConfig: TRANSLATION}
    return kinds[type(config)]
