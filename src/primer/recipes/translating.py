"""What a run that translates is for: sentences in, sentences out, and where it looked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from primer.errors import DataError
from primer.evals.likelihood import Progress
from primer.generation.config import BeamConfig
from primer.generation.sentences import beam_search_all
from primer.lens.cross import cross_attention
from primer.recipes.config import TranslationConfig, as_translation
from primer.recipes.translation import text_of
from primer.tokens.tokenizer import END_OF_TEXT, Ids, Tokenizer

if TYPE_CHECKING:
    from primer.recipes.loaded import Run


@dataclass(frozen=True)
class Translated:
    """A translation, and how sure the model is of it."""

    text: str
    log_p: float
    """Of the whole of it, in nats."""
    score: float
    """The same, divided by the length penalty: what hypotheses are compared by."""
    ids: tuple[int, ...]
    """Its tokens, without the end."""
    ended: bool
    """Whether the model ended it; else the limit cut it (`BeamConfig.extra_length`, or the model's context)."""


@dataclass(frozen=True)
class Looked:
    """Where the decoder looked while it wrote a translation."""

    text: str
    """The translation."""
    source: list[str]
    """Its tokens and the translation's as they are read; the end among them, where there is one."""
    target: list[str]
    pattern: Float[Tensor, "L H T S"]
    """By layer, head, token of the translation and token of the source."""


def look(run: "Run", sentence: str, **wanted: Any) -> Looked:
    """Translate a sentence and look at the attention between the two languages. Keywords as `translate`."""
    config = as_translation(run.config)
    device, tokenizer = next(run.transformer.parameters()).device, run.tokenizer
    source = read(sentence, tokenizer, config.model.context_length)
    (found,) = translate(run, [sentence], **wanted)
    end = tokenizer.special_tokens[END_OF_TEXT]
    target = [*found.ids, *[end] * found.ended]
    read_ids, written_ids = (torch.tensor(ids, device=device) for ids in (source.tolist(), target))
    pattern = cross_attention(run.transformer, read_ids, written_ids, begin=end).cpu()
    read_as, written_as = ([piece(token, tokenizer) for token in ids] for ids in (source.tolist(), target))
    return Looked(found.text, read_as, written_as, pattern)


def piece(token: int, tokenizer: Tokenizer) -> str:
    """A token to be read in a picture: a space is shown, and bytes that are no whole character as such."""
    if token in tokenizer.special_tokens.values():
        return "■"
    return tokenizer.token_bytes(token).decode("utf-8", "backslashreplace").replace(" ", "␣")


def translate(
    run: "Run",
    sentences: Sequence[str],
    *,
    beam: int | None = None,
    length_penalty: float | None = None,
    use_cache: bool = True,
    progress: Progress | None = None,
) -> list[Translated]:
    """See `Run.translate`."""
    config = as_translation(run.config)
    how = searching(config, beam, length_penalty)
    ids = [
        read(
            sentence, run.tokenizer, config.model.context_length, f"sentence {number}" * (len(sentences) > 1)
        )
        for number, sentence in enumerate(sentences, start=1)
    ]
    return search(run, ids, how, use_cache=use_cache, progress=progress)


def searching(config: TranslationConfig, beam: int | None, length_penalty: float | None) -> BeamConfig:
    """How a run searches, with what was asked for in the place of what is usual for it."""
    usual = config.translate
    return replace(
        usual,
        beam=usual.beam if beam is None else beam,
        length_penalty=usual.length_penalty if length_penalty is None else length_penalty,
    ).search


def search(
    run: "Run",
    ids: Sequence[Ids],
    how: BeamConfig,
    *,
    use_cache: bool = True,
    progress: Progress | None = None,
) -> list[Translated]:
    """The best translation of each sentence of ids."""
    with run.precision().autocast():
        found = beam_search_all(
            run.transformer,
            ids,
            end=run.tokenizer.special_tokens[END_OF_TEXT],
            config=how,
            vocabulary=run.tokenizer.vocab_size,
            use_cache=use_cache,
            progress=progress or (lambda done, total: None),
        )
    return [
        Translated(text_of(best.ids, run.tokenizer), best.log_p, best.score, best.ids, best.ended)
        for best, *_ in found
    ]


class SentenceTooLongError(DataError):
    """A sentence that the model cannot read."""


def read(sentence: str, tokenizer: Tokenizer, longest: int, where: str = "") -> Ids:
    """A sentence as the encoder reads it. DataError for an empty one, and for one that is too long: nothing is cut."""
    text = sentence.strip()
    if not text:
        raise DataError("there is nothing to translate: the sentence is empty", where or None, "a sentence")
    ids = np.append(
        tokenizer.encode(text, special="text").astype(np.int64), tokenizer.special_tokens[END_OF_TEXT]
    )
    if len(ids) > longest:
        raise SentenceTooLongError(
            f"the sentence has {len(ids)} tokens, and the model reads {longest}",
            where or None,
            "a sentence at a time: nothing is cut",
        )
    return ids
