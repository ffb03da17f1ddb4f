"""How well a run translates, on pairs that it never saw: of its own text, or of any other."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from primer.assets import log
from primer.corpus.parallel import NAMED, ParallelText, Rejected, open_parallel
from primer.corpus.parallel_readers import WITH_FIELDS
from primer.corpus.readers import unpacked_suffix
from primer.data.pairs import Pairs, Sentences, evaluation_pairs, within
from primer.errors import DataError, UsageError
from primer.evals.bleu import bleu, chrf, exact, metrics
from primer.evals.likelihood import Progress
from primer.evals.pair_perplexity import score_pairs
from primer.recipes.config import PairsConfig, as_translation
from primer.recipes.translating import read, search, searching
from primer.recipes.translation import evaluated_at_once, reopen, text_of, words_of
from primer.tokens.tokenizer import Ids

if TYPE_CHECKING:
    from primer.recipes.loaded import Run

OWN = ("validation", "test")
"""The parts of a run's own text that can be scored."""


@dataclass(frozen=True)
class PairReading:
    """How the files of other pairs are read (`PairsConfig`). What is left out is as the run's own text was read."""

    encoding: str | None = None
    encoding_errors: str | None = None
    source_field: str = ""
    target_field: str = ""


def score_pairs_of(
    run: "Run",
    text: str | Path | None = None,
    target: str | Path = "",
    *,
    how: PairReading | None = None,
    beam: int | None = None,
    length_penalty: float | None = None,
    resamples: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """See `Run.evaluate_pairs`."""
    metrics()  # what is missing is said now, not after minutes of translating
    config, tokenizer = as_translation(run.config), run.tokenizer
    pairs = pairs_of(run, text, target, how or PairReading())
    longest = config.model.context_length
    numbers = within(pairs, longest)
    if not len(numbers):
        raise DataError(
            f"no pair here has two sentences of {longest} tokens at most",
            str(text or config.data.source),
            "another text",
        )
    with run.precision().autocast():
        found = score_pairs(
            run.transformer,
            evaluation_pairs(pairs, evaluated_at_once(run.transformer), longest),
            words_of(pairs, longest, tokenizer),
        )
    searched = searching(config, beam, length_penalty)
    translated = search(run, [pairs.source[n] for n in numbers.tolist()], searched, progress=progress)
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
        "beam": searched.beam,
        "pairs": len(numbers),
        "left_out": len(pairs) - len(numbers),
        "tokens": found.tokens,
        "words": found.words,
    }


def pairs_of(
    run: "Run", text: str | Path | None, target: str | Path = "", how: PairReading | None = None
) -> Pairs:
    """The validation or test part of the run's own text, or another one's, in the run's own ids.

    Of another text it is the test part, where there is one, else the validation part, else all of it.
    """
    config = as_translation(run.config)
    if text is None or text in OWN:
        if target:
            raise UsageError(
                "--target is the other side of a text, and none is named", hint="--on=FILE --target=FILE"
            )
        return reopen(config, run.directory, moved=False).pairs(str(text or "validation"))
    other = another(config.data, text, target, how or PairReading())
    rejected = Rejected()
    sides: tuple[list[Ids], list[Ids]] = [], []
    for pair in other.pairs(other.splits()[-1], rejected):
        for ids, sentence in zip(sides, (pair.source, pair.target), strict=True):
            ids.append(read(sentence, run.tokenizer, sys.maxsize, pair.place))
    if rejected.total:
        log.warning("%s: pairs left out: %s", text, rejected)
    return Pairs(*(Sentences(np.concatenate(ids), np.cumsum([len(each) for each in ids])) for ids in sides))


def another(data: PairsConfig, text: str | Path, target: str | Path, how: PairReading) -> ParallelText:
    """A text that is not the run's own, read like it where both are of one kind, and in the direction of the run.

    What says which side is which, two files or the names of both, says it for the run: then nothing is swapped.
    """
    fields = how.source_field, how.target_field
    said = bool(target) or any(fields)
    if not said and _kind(text) == (_kind(data.source) or "folder"):
        fields = data.source_field, data.target_field
    return open_parallel(
        text,
        target,
        source_field=fields[0],
        target_field=fields[1],
        encoding=how.encoding or data.encoding,
        encoding_errors=how.encoding_errors or data.encoding_errors,
        swap=data.swap and not said,
    )


def _kind(text: str | Path) -> str:
    """What has names for its two sides: a folder, or a file by its ending; nothing for what has none."""
    suffix = unpacked_suffix(Path(text))
    if text in NAMED:
        return ""
    return suffix if suffix in WITH_FIELDS else "folder" if os.path.isdir(text) else ""
