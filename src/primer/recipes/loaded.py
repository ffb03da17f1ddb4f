"""A run that is there: its choices, its curves, and its model."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch

from primer import device as devices
from primer.errors import SurroundingsError
from primer.evals.likelihood import Progress
from primer.evals.multiple_choice import TaskScore
from primer.evals.tasks import Task
from primer.exchange import Format
from primer.generation.sampling import Sampling
from primer.generation.text import streams
from primer.models.gpt import GPT
from primer.models.transformer import Transformer
from primer.recipes import scores, translating
from primer.recipes.config import TranslationConfig, as_language, as_translation
from primer.recipes.directory import RunDirectory
from primer.recipes.exported import export
from primer.recipes.pair_scores import PairReading, score_pairs_of
from primer.recipes.scores import Reading, Unknown
from primer.recipes.text import opening, read_tokenizer
from primer.recipes.weights import Which, load_model
from primer.tokens.tokenizer import Ids, Special, Tokenizer
from primer.training.precision import Precision


class Run:
    """A run on disk: its choices, its curves, and its model, which is read when it is first needed."""

    def __init__(self, run: RunDirectory, which: Which | None = None) -> None:
        self.directory = run
        self.path = run.path
        self.config = run.read_config()
        self.which: Which = which or ("average" if isinstance(self.config, TranslationConfig) else "best")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __fspath__(self) -> str:
        return str(self.path)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Text ↔ ids of this run."""
        return read_tokenizer(self.directory)

    @cached_property
    def model(self) -> GPT | Transformer:
        """The trained model, ready to read and to write. One whose weights were refused is not kept."""
        return load_model(self.config, self.directory, self.which, self._device()).eval()

    @property
    def gpt(self) -> GPT:
        """The model of a run that goes on with texts. UsageError for one that translates."""
        as_language(self.config)
        return cast(GPT, self.model)

    @property
    def transformer(self) -> Transformer:
        """The model of a run that translates. UsageError for one that goes on with texts."""
        as_translation(self.config)
        return cast(Transformer, self.model)

    def _device(self) -> torch.device:
        """Where the run was trained, if this machine has such a device; else the best that it has."""
        try:
            return devices.choose(self.config.train.device)
        except SurroundingsError:
            return devices.choose("auto")

    def precision(self) -> Precision:
        """That of training, where the model's device has it; else float32."""
        device = next(self.model.parameters()).device
        try:
            return Precision(device, devices.autocast_dtype(device, self.config.train.precision))
        except SurroundingsError:
            return Precision(device)

    def metrics(self) -> list[dict[str, Any]]:
        """All rows of metrics.jsonl: those with `loss` are steps, those with `val_loss` evaluations."""
        return self.directory.metrics.rows()

    def stream(self, prompt: str | None = None, **wanted: Any) -> Iterator[str]:
        """Write on from `prompt`, piece by piece, as `generate` does."""
        for (piece,) in self.streams(prompt, n=1, **wanted):
            if piece:
                yield piece

    def generate(self, prompt: str | None = None, *, n: int = 1, **wanted: Any) -> str | list[str]:
        """What the model writes after `prompt` (a list of n texts where n > 1), without the prompt.

        Keywords: tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop, special, use_cache; unset,
        the first four are those of the run's `[sample]`.
        """
        texts = [""] * n
        for pieces in self.streams(prompt, n=n, **wanted):
            texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
        return texts if n > 1 else texts[0]

    def streams(
        self,
        prompt: str | None = None,
        *,
        n: int = 1,
        tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        special: Special = "refuse",
        use_cache: bool = True,
    ) -> Iterator[list[str]]:
        """n texts at once, piece by piece: one list of n pieces (often empty ones) a token.

        special: where the prompt spells a special token: "refuse" it, "allow" it as the token, or take it for "text".
        """
        usual = as_language(self.config).sample
        sampling = Sampling(
            temperature=usual.temperature if temperature is None else temperature,
            top_k=usual.top_k if top_k is None else top_k,
            top_p=usual.top_p if top_p is None else top_p,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
        )
        begin: str | Ids = opening(self.tokenizer, usual.prompt) if prompt is None else prompt
        if prompt and special != "refuse":
            begin = self.tokenizer.encode(prompt, special=special)
        return streams(
            self.gpt,
            self.tokenizer,
            begin,
            samples=n,
            max_tokens=usual.tokens if tokens is None else tokens,
            sampling=sampling,
            seed=seed,
            stop=stop,
            use_cache=use_cache,
        )

    def translate(
        self,
        sentences: str | Sequence[str],
        *,
        beam: int | None = None,
        length_penalty: float | None = None,
        use_cache: bool = True,
        progress: Progress | None = None,
    ) -> str | list[str]:
        """The translation of a sentence, or of each of several; of a run that was trained on pairs.

        beam, length_penalty: as the run's own [translate] says, where unset. use_cache: False computes every position
        again for each token, the slow truth behind it. Raises DataError for a sentence that has no words, or more
        tokens than the model reads.
        """
        several = [sentences] if isinstance(sentences, str) else list(sentences)
        found = translating.translate(
            self, several, beam=beam, length_penalty=length_penalty, use_cache=use_cache, progress=progress
        )
        texts = [each.text for each in found]
        return texts[0] if isinstance(sentences, str) else texts

    def look(self, sentence: str, **wanted: Any) -> translating.Looked:
        """Translate a sentence, and see where the decoder looked in it: tokens of both, and the pattern (L, H, T, S).

        Keywords: beam, length_penalty.
        """
        return translating.look(self, sentence, **wanted)

    def evaluate(
        self,
        text: str | Path | None = None,
        *,
        unknown: Unknown = "error",
        encoding: str | None = None,
        encoding_errors: Literal["strict", "replace", "ignore"] | None = None,
        field: str | None = None,
        progress: Progress | None = None,
    ) -> dict[str, float]:
        """Loss (nats a token), perplexity and bits per byte on the validation split, or on another text.

        A run that translates has pairs, not texts: `evaluate_pairs`.

        text: a file, a folder or a named source, or a folder of token shards, of which the validation part is scored.

        Before every document of a text stands the end-of-text token, where the tokenizer has one; it is predicted, too,
        and bits per byte are all nats over all bytes. Probabilities are over the model's whole vocabulary.

        unknown: of a character in `text` that the run has never seen: an error that names it, or to drop it. The key
        `skipped` says how many were. encoding, encoding_errors, field: how files are read (`DataConfig`), where not as
        the run's own text was. progress: called with (scored, all) tokens on the way.
        """
        how = Reading(unknown, encoding, encoding_errors, field)
        return scores.of_text(self, text, how, progress)

    def evaluate_pairs(
        self,
        text: str | Path | None = None,
        target: str | Path = "",
        *,
        encoding: str | None = None,
        encoding_errors: str | None = None,
        source_field: str = "",
        target_field: str = "",
        beam: int | None = None,
        length_penalty: float | None = None,
        resamples: int = 0,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """How well a run predicts and translates pairs: loss, perplexities, BLEU with its signature, chrF, exact share.

        text: "validation" (unset) or "test", of the run's own text; or other pairs, as `data.source` names them, with
        `target` where the translations are in a file of their own. Pairs that are too long for the model are counted
        under `left_out`. encoding, encoding_errors, source_field, target_field: how files are read (`PairsConfig`),
        where not as the run's own text was; whatever is named as the source is what the run then reads.
        resamples: texts drawn for BLEU's interval (1000 is usual); 0: none. progress: called with (translated, all)
        sentences. Raises SurroundingsError without sacrebleu (extra [eval]).
        """
        how = PairReading(encoding, encoding_errors, source_field, target_field)
        return score_pairs_of(
            self,
            text,
            target,
            how=how,
            beam=beam,
            length_penalty=length_penalty,
            resamples=resamples,
            progress=progress,
        )

    def export(self, out: str | Path | None = None, *, to: Format = "huggingface") -> Path:
        """Write the model and its tokenizer for other programs into the new folder `out`, and return it.

        Without `out`, the folder is called like the run and the format, and lies in the current one. Raises UsageError
        for options that the format cannot hold, and where `out` exists.
        """
        which: Literal["best", "latest"] = "latest" if self.which == "latest" else "best"
        return export(self.directory, as_language(self.config).model, which, out, to)

    def evaluate_task(
        self,
        task: str | Path | Task,
        *,
        limit: int | None = None,
        shots: int = 0,
        seed: int = 0,
        unknown: Unknown = "error",
        progress: Progress | None = None,
    ) -> TaskScore:
        """How often the right answer is the likeliest: `evaluate_task("hellaswag")`, or a .jsonl file of questions.

        limit: only the first so many questions. shots: solved examples in front of each, drawn from `seed`. progress:
        called with (scored, all) candidates on the way.
        """
        return scores.of_task(
            self, task, limit=limit, shots=shots, seed=seed, unknown=unknown, progress=progress
        )

    def evaluate_harness(
        self,
        tasks: Sequence[str | dict[str, Any]],
        *,
        limit: int | None = None,
        shots: int | None = None,
        unknown: Unknown = "error",
    ) -> dict[str, dict[str, Any]]:
        """What lm-evaluation-harness finds, by task. Needs the extra [eval]; the harness fetches its data itself."""
        return scores.in_harness(self, tasks, limit=limit, shots=shots, unknown=unknown)
