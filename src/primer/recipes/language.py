"""Language models on texts: what training must know of them beyond what it knows of every run."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from primer.data.batches import Batch, BatchStream
from primer.data.shards import ShardDirectory
from primer.evals.perplexity import score
from primer.generation.text import stream
from primer.models.gpt import GPT
from primer.recipes.build import (
    Spare,
    build_model,
    build_stream,
    build_trainer,
    reaches,
    require_reach,
    tokens_to_score,
    validation_batches,
)
from primer.recipes.config import RunConfig
from primer.recipes.directory import RunDirectory
from primer.recipes.measure import Tell, choose_micro_batch, with_train
from primer.recipes.session import Session
from primer.recipes.text import open_data, opening, prepare_data
from primer.tokens.tokenizer import Tokenizer
from primer.training.distributed import World
from primer.training.loop import Trainer
from primer.training.sharding import is_sharded


class TextSession(Session):
    """Scores by how well the validation text is predicted, and lets the model write."""

    config: RunConfig
    data: ShardDirectory

    def scores(self, step: int) -> dict[str, float]:
        trainer = self.trainer
        batches = validation_batches(
            self.config,
            self.data,
            trainer.world,
            step,
            device=trainer.precision.device,
            together=is_sharded(trainer.model),
        )
        lengths: Tensor = torch.from_numpy(np.asarray(self.data.tokenizer.byte_lengths, dtype=np.int64))
        with trainer.averaged(), trainer.precision.autocast():
            found = score(
                trainer.model,
                self._scored(self.unless_asked(batches)),
                lengths,
                total=trainer.world.total,
                progress=self._tell,
            )
        return {
            "val_loss": found.loss,
            "val_perplexity": found.perplexity,
            "val_bits_per_byte": found.bits_per_byte,
        }

    def _scored(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches that count; the others are only read."""
        for batch in batches:
            if isinstance(batch, Spare):
                self.trainer.model(batch.inputs.to(self.trainer.precision.device))
            else:
                yield batch

    def _tell(self, tokens: int) -> None:
        """Tell how far an evaluation is, of all processes together."""
        total = tokens_to_score(self.config, self.data)
        self.reporter.on_part("evaluating", min(tokens * self.trainer.world.size, total), total)

    def written(self, step: int) -> str | None:
        first = self.trainer.world.is_first
        if not first and not is_sharded(self.trainer.model):
            return None
        wanted, tokenizer = self.config.sample, self.data.tokenizer
        assert isinstance(self.trainer.model, GPT)
        prompt = opening(tokenizer, wanted.prompt)
        if first and wanted.prompt not in ("", prompt) and not self.run.samples.file.exists():
            self.reporter.on_message(f"samples begin with {prompt!r}: this text lacks {wanted.prompt!r}")
        pieces = stream(
            self.trainer.model,
            tokenizer,
            prompt,
            max_tokens=wanted.tokens,
            sampling=wanted.sampling,
            seed=self.config.seed + step,
        )
        text = prompt + "".join(pieces)
        return text if first else None


class Language:
    """GPTs on windows of a text (see `recipes.kinds.Kind`)."""

    session = TextSession

    def prepare(
        self, config: RunConfig, world: World, tokenizer: Tokenizer | None, tell: Tell
    ) -> ShardDirectory:
        return prepare_data(config, world, tokenizer, tell=tell)

    def reopen(self, config: RunConfig, run: RunDirectory, world: World, moved: bool) -> ShardDirectory:
        return open_data(config, run, world, moved=moved)

    def model(self, config: RunConfig, data: ShardDirectory, device: torch.device) -> GPT:
        return build_model(config, data, device)

    def with_micro_batch(self, config: RunConfig, model: nn.Module, world: World) -> RunConfig:
        assert isinstance(model, GPT)
        return with_train(config, micro_batch=choose_micro_batch(config, model, world))

    def trainer(self, config: RunConfig, model: nn.Module, data: ShardDirectory, world: World) -> Trainer:
        assert isinstance(model, GPT)
        return build_trainer(config, model, data, world)

    def checked(
        self,
        config: RunConfig,
        trainer: Trainer,
        data: ShardDirectory,
        world: World,
        origins: dict[str, str],
        tell: Tell,
    ) -> RunConfig:
        """An order of windows that hardly reaches the text is refused, or (where the recipe chose it) gives way."""
        stream = cast(BatchStream, trainer.stream)
        if not reaches(stream) and origins["data.order"].startswith("recipe "):
            config = anywhere(config)
            trainer.stream = build_stream(config, data, world)
            tell("the documents are far longer than the context: windows begin anywhere (data.order=epochs)")
            return config
        require_reach(stream)
        return config

    def start_info(self, config: RunConfig, data: ShardDirectory) -> dict[str, Any]:
        return {
            "train_tokens": data.counts["train"]["tokens"],
            "validation_tokens": data.counts["validation"]["tokens"],
            "tokens_a_step": config.train.batch_size * config.model.context_length,
            "micro_batch": config.train.micro_batch,
        }


def anywhere(config: RunConfig) -> RunConfig:
    """The config with windows that begin anywhere."""
    return replace(config, data=replace(config.data, order="epochs"))
