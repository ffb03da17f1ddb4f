"""What a run that translates is for: sentences in, sentences out; and how good they are on pairs that it never saw."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from primer.corpus.parallel import open_parallel
from primer.data.pairs import Pairs, Sentences, evaluation_pairs, within
from primer.errors import DataError
from primer.evals.bleu import bleu, chrf, exact
from primer.evals.likelihood import Progress
from primer.evals.pair_perplexity import score_pairs
from primer.generation.config import BeamConfig
from primer.generation.sentences import beam_search_all
from primer.lens.cross import cross_attention
from primer.recipes.config import TranslationConfig, as_translation
from primer.recipes.translation import EVALUATED_AT_ONCE, reopen, text_of, words_of
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
    """Its tokens."""


@dataclass(frozen=True)
class Looked:
    """Where the decoder looked while it wrote a translation."""

    text: str
    """The translation."""
    source: list[str]
    """Its tokens and the translation's as they are read, the end among them."""
    target: list[str]
    pattern: Float[Tensor, "L H T S"]
    """By layer, head, token of the translation and token of the source."""


def look(run: "Run", sentence: str, **wanted: Any) -> Looked:
    """Translate a sentence and look at the attention between the two languages. Keywords as `translate`."""
    config = as_translation(run.config)
    device, tokenizer = next(run.transformer.parameters()).device, run.tokenizer
    source = read(sentence, tokenizer, config.model.context_length)
    (found,) = translate(run, [sentence], **wanted)
    target = np.append(found.ids, tokenizer.special_tokens[END_OF_TEXT])
    sides = [torch.from_numpy(ids.astype(np.int64)).to(device) for ids in (source, target)]
    pattern = cross_attention(run.transformer, *sides).cpu()
    read_as, written_as = ([piece(token, tokenizer) for token in ids.tolist()] for ids in (source, target))
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
        Translated(text_of(best.ids, run.tokenizer), best.log_p, best.score, best.ids) for best, *_ in found
    ]


def read(sentence: str, tokenizer: Tokenizer, longest: int, where: str = "") -> Ids:
    """A sentence as the encoder reads it. DataError for an empty one, and for one that is too long: nothing is cut."""
    text = sentence.strip()
    if not text:
        raise DataError("there is nothing to translate: the sentence is empty", where or None, "a sentence")
    ids = np.append(
        tokenizer.encode(text, special="text").astype(np.int64), tokenizer.special_tokens[END_OF_TEXT]
    )
    if len(ids) > longest:
        raise DataError(
            f"the sentence has {len(ids)} tokens, and the model reads {longest}",
            where or None,
            "a sentence at a time: nothing is cut",
        )
    return ids


def score_pairs_of(
    run: "Run",
    text: str | Path | None = None,
    target: str | Path = "",
    *,
    beam: int | None = None,
    length_penalty: float | None = None,
    resamples: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How well a run predicts and translates pairs: of its own text's part (validation, or test), or of another text.

    Pairs with a sentence that the model cannot read are counted under `left_out`. Raises SurroundingsError without
    sacrebleu.
    """
    config, tokenizer = as_translation(run.config), run.tokenizer
    pairs = pairs_of(run, text, target)
    longest = config.model.context_length
    numbers = within(pairs, longest)
    if not len(numbers):
        raise DataError(
            f"no pair here has two sentences of {longest} tokens at most", str(text), "another text"
        )
    with run.precision().autocast():
        found = score_pairs(
            run.transformer,
            evaluation_pairs(pairs, EVALUATED_AT_ONCE, longest),
            words_of(pairs, longest, tokenizer),
        )
    how = searching(config, beam, length_penalty)
    translated = search(run, [pairs.source[n] for n in numbers.tolist()], how, progress=progress)
    texts = [each.text for each in translated]
    references = [text_of(pairs.target[n], tokenizer) for n in numbers.tolist()]
    scored, same = bleu(texts, references, resamples=resamples), exact(texts, references)
    return {
        "loss": found.loss,
        "perplexity": found.perplexity,
        "word_perplexity": found.word_perplexity,
        "bleu": scored.score,
        "bleu_low": scored.low,
        "bleu_high": scored.high,
        "signature": scored.signature,
        "chrf": chrf(texts, references).score,
        "exact": same.value,
        "exact_low": same.low,
        "exact_high": same.high,
        "beam": how.beam,
        "pairs": len(numbers),
        "left_out": len(pairs) - len(numbers),
        "tokens": found.tokens,
        "words": found.words,
    }


def pairs_of(run: "Run", text: str | Path | None, target: str | Path) -> Pairs:
    """The validation or test part of the run's own text, or another one's, in the run's own ids.

    Of another text it is the test part, where there is one, else the validation part, else all of it.
    """
    config = as_translation(run.config)
    if text is None or text in ("validation", "test"):
        return reopen(config, run.directory, moved=False).pairs(str(text or "validation"))
    data = config.data
    other = open_parallel(
        text,
        target,
        source_field=data.source_field,
        target_field=data.target_field,
        encoding=data.encoding,
        encoding_errors=data.encoding_errors,
        swap=data.swap,
    )
    sides: tuple[list[Ids], list[Ids]] = [], []
    for pair in other.pairs(other.splits()[-1]):
        for ids, sentence in zip(sides, (pair.source, pair.target), strict=True):
            ids.append(read(sentence, run.tokenizer, sys.maxsize, pair.place))
    return Pairs(*(Sentences(np.concatenate(ids), np.cumsum([len(each) for each in ids])) for ids in sides))
