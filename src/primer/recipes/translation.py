"""Encoder–decoders on pairs of sentences: what training must know of them beyond what it knows of every run."""

import os
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, cast

import torch
from torch import nn

from primer.corpus.parallel import open_parallel
from primer.data.pair_directory import PairDirectory
from primer.data.pairs import Pairs, PairStream, evaluation_pairs, padding, within
from primer.data.prepare_pairs import prepare_pairs
from primer.errors import DataError, SurroundingsError, UsageError
from primer.evals.bleu import bleu, exact
from primer.evals.likelihood import at_once
from primer.evals.pair_perplexity import score_pairs
from primer.generation.config import BeamConfig
from primer.generation.sentences import beam_search_all
from primer.models.transformer import Transformer
from primer.recipes.build import assemble
from primer.recipes.config import TranslationConfig
from primer.recipes.directory import RunDirectory
from primer.recipes.measure import Tell, with_train
from primer.recipes.plan import places_at_once
from primer.recipes.session import BrokenOff, Session
from primer.recipes.text import Preparing, read_tokenizer, text_changed, with_a_way_back
from primer.tokens.tokenizer import END_OF_TEXT, Ids, Tokenizer
from primer.training.distributed import World
from primer.training.loop import Trainer
from primer.training.precision import in_formats
from primer.training.sharding import is_sharded

SHOWN = 3
"""Pairs of the validation split that are translated to be read."""


class PairSession(Session):
    """Scores by how well validation pairs are predicted and translated, and shows some translations."""

    config: TranslationConfig
    data: PairDirectory
    _mentioned = False

    @property
    def apart(self) -> int:
        several = (
            self.config.translate.checkpoints > 1
        )  # whose mean is to be had, whatever was saved in between
        return self.config.train.checkpoint_every if several else 1

    def scores(self, step: int) -> dict[str, float]:
        trainer, world, longest = self.trainer, self.trainer.world, self.config.model.context_length
        pairs = self.data.pairs("validation")
        together = is_sharded(trainer.model)  # all processes then read the same; else each has a part
        at_once = evaluated_at_once(cast(Transformer, trainer.model))
        batches = self.unless_asked(evaluation_pairs(pairs, at_once, longest))
        with trainer.averaged(), trainer.precision.autocast():
            found = score_pairs(
                cast(Transformer, trainer.model),
                batches if together else islice(batches, world.rank, None, world.size),
                words_of(pairs, longest, self.data.tokenizer),
                total=(lambda sums: sums) if together else world.total,
                progress=self._tell,
            )
            row = {
                "val_loss": found.loss,
                "val_perplexity": found.perplexity,
                "val_word_perplexity": found.word_perplexity,
            }
            if world.is_first or together:
                row |= self._translated(pairs)
        return row

    def _tell(self, tokens: int) -> None:
        """Tell how far an evaluation is, of all processes together."""
        world, total = self.trainer.world, self.data.counts["validation"]["target_tokens"]
        together = 1 if is_sharded(self.trainer.model) else world.size
        self.reporter.on_part("evaluating", min(tokens * together, total), total)

    def _translated(self, pairs: Pairs) -> dict[str, float]:
        """How close greedy translations of the first pairs come to theirs."""
        numbers = self._first(pairs, self.config.train.evaluate_pairs)
        if not numbers:
            return {}

        def tell(done: int, total: int) -> None:
            if self._asked_alone:
                raise BrokenOff
            self.reporter.on_part("translating", done, total)

        tokenizer = self.data.tokenizer
        try:
            texts = self._greedy(pairs, numbers, tell)
        except DataError as error:  # logits that are not finite: whether to go on is for the loop to say
            self.reporter.on_message(f"no translations: {error.cause}")
            return {}
        references = [text_of(pairs.target[n], tokenizer) for n in numbers]
        row = {"val_exact": exact(texts, references).value}
        try:
            row["val_bleu"] = bleu(texts, references).score
        except SurroundingsError as error:
            if not self._mentioned:
                self.reporter.on_message(f"{error.cause}: no BLEU on the way ({error.hint})")
            self._mentioned = True
        return row

    def _first(self, pairs: Pairs, count: int) -> list[int]:
        """The first pairs that the model can read."""
        return within(pairs, self.config.model.context_length)[:count].tolist()

    def _greedy(self, pairs: Pairs, numbers: list[int], tell: Callable[[int, int], None]) -> list[str]:
        model, tokenizer = self.trainer.model, self.data.tokenizer
        assert isinstance(model, Transformer)
        found = beam_search_all(
            model,
            [pairs.source[n] for n in numbers],
            end=tokenizer.special_tokens[END_OF_TEXT],
            config=BeamConfig(1, 0.0, self.config.translate.extra_length),
            vocabulary=tokenizer.vocab_size,
            use_cache=not is_sharded(model),  # whose parts are only whole within its own forward pass
            progress=tell,
        )
        return [text_of(best.ids, tokenizer) for best, *_ in found]

    def written(self, step: int) -> str | None:
        if not self.trainer.world.is_first and not is_sharded(self.trainer.model):
            return None
        pairs, tokenizer = self.data.pairs("validation"), self.data.tokenizer
        numbers = self._first(pairs, SHOWN)
        found = self._greedy(pairs, numbers, lambda done, total: None)
        lines = []
        for number, text in zip(numbers, found, strict=True):
            source, wanted = (text_of(side[number], tokenizer) for side in (pairs.source, pairs.target))
            lines += [source, f"  → {text}", f"  = {wanted}"]
        return "\n".join(lines) if self.trainer.world.is_first else None


class Translation:
    """Encoder–decoders on pairs of sentences (see `recipes.kinds.Kind`)."""

    session = PairSession

    def prepare(
        self, config: TranslationConfig, world: World, tokenizer: Tokenizer | None, tell: Tell
    ) -> PairDirectory:
        with world.first_goes_ahead():
            return prepare(config, tokenizer, tell)

    def reopen(
        self, config: TranslationConfig, run: RunDirectory, world: World, moved: bool
    ) -> PairDirectory:
        with world.first_goes_ahead():
            return reopen(config, run, moved)

    def model(self, config: TranslationConfig, data: PairDirectory, device: torch.device) -> Transformer:
        torch.manual_seed(config.seed)
        model = Transformer(config.model)
        in_formats(model, config.precision)
        return model.to(device)

    def with_micro_batch(
        self, config: TranslationConfig, model: nn.Module, world: World
    ) -> TranslationConfig:
        device = next(model.parameters()).device
        places = world.first(places_at_once(config, device.type), device)
        return with_train(config, micro_tokens=places)

    def trainer(
        self, config: TranslationConfig, model: nn.Module, data: PairDirectory, world: World
    ) -> Trainer:
        stream = PairStream(
            data.pairs("train"),
            batch_tokens=config.train.batch_tokens,
            longest=config.model.context_length,
            seed=config.seed,
            rank=world.rank,
            world_size=world.size,
        )
        return assemble(config, model, stream, world, places=config.train.micro_tokens)

    def checked(
        self,
        config: TranslationConfig,
        trainer: Trainer,
        data: PairDirectory,
        world: World,
        origins: dict[str, str],
        tell: Tell,
    ) -> TranslationConfig:
        stream = trainer.stream
        assert isinstance(stream, PairStream)
        longest, held_out = config.model.context_length, data.pairs("validation")
        too_long = len(held_out) - len(within(held_out, longest))
        if too_long == len(held_out):
            raise DataError(
                f"there are no pairs to judge by: of {too_long:,} none has two sentences of {longest} tokens at most",
                hint="a longer --model.context-length, or another text",
            )
        parts = {"training": (stream.left_out, stream.pairs), "validation": (too_long, held_out)}
        for name, (left_out, pairs) in parts.items():
            if left_out:
                tell(
                    f"{left_out:,} of {len(pairs):,} {name} pairs are left out: a sentence of more than "
                    f"{longest} tokens (model.context_length)"
                )
        batches = stream.batches()
        tell(
            f"{len(batches):,} batches an epoch of at most {config.train.batch_tokens:,} places a side, "
            f"{padding(stream.pairs, batches):.1%} of them padding"
        )
        return config

    def start_info(self, config: TranslationConfig, data: PairDirectory) -> dict[str, Any]:
        return {
            "train_tokens": data.counts["train"]["target_tokens"],
            "validation_tokens": data.counts["validation"]["target_tokens"],
            "tokens_a_step": config.train.batch_tokens,
            "micro_batch": config.train.micro_tokens,
        }


def prepare(
    config: TranslationConfig, tokenizer: Tokenizer | None, tell: Tell | None = None
) -> PairDirectory:
    """The pairs of the config's text."""
    data = config.data
    if not data.source:
        raise UsageError(
            f"recipe {config.recipe} has no pairs of its own",
            hint="--data.source=FILE --data.target=FILE, or --data.source=multi30k",
        )
    text = open_parallel(
        data.source,
        data.target,
        source_field=data.source_field,
        target_field=data.target_field,
        validation_source=data.validation_source,
        validation_target=data.validation_target,
        encoding=data.encoding,
        encoding_errors=data.encoding_errors,
        swap=data.swap,
    )
    return prepare_pairs(
        text,
        tokenizer=tokenizer or data.tokenizer,
        vocab_size=data.vocab_size,
        validation_fraction=data.validation_fraction,
        progress=Preparing(tell) if tell else None,
    )


def reopen(config: TranslationConfig, run: RunDirectory, moved: bool) -> PairDirectory:
    """The pairs that a run was trained on, where they are or made again. DataError for a text that changed."""
    facts = run.read_facts()["data"]
    found = None
    if not moved and os.path.isdir(facts["path"]):
        try:
            found = PairDirectory.open(facts["path"])
        except DataError:
            found = None
    if found is None:
        try:
            found = prepare(config, read_tokenizer(run))
        except DataError as error:
            raise with_a_way_back(error, config) from None
    if found.fingerprint != facts["fingerprint"]:
        raise text_changed(config, run)
    return found


def evaluated_at_once(model: Transformer) -> int:
    """Places of each side that are scored at once."""
    return at_once(model.config.vocab_size, model.embedding.tokens.weight.device)


def words_of(pairs: Pairs, longest: int, tokenizer: Tokenizer) -> int:
    """Words of the targets of those pairs that are not too long, whatever the tokenizer makes of them."""
    return sum(len(text_of(pairs.target[n], tokenizer).split()) for n in within(pairs, longest).tolist())


def text_of(ids: Ids | Sequence[int], tokenizer: Tokenizer) -> str:
    """A sentence without its end."""
    end = tokenizer.special_tokens[END_OF_TEXT]
    return tokenizer.decode(token for token in ids if token != end)
