"""How close translations come to those of people: BLEU and chrF, by sacrebleu, and how many are the same.

BLEU (Papineni et al. 2002) is a figure of a whole text. It depends on how a text is cut into words, so a BLEU says
little without its signature, and only figures with the same one can be compared (Post 2018). Those of Vaswani et al.
2017 have none: their texts were tokenised, and German compounds split, which gives higher figures than sacrebleu's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from primer.errors import DataError, missing_extra
from primer.evals.interval import Estimate, wilson


@dataclass(frozen=True)
class Bleu:
    """BLEU of a text, 0 to 100: brevity penalty × geometric mean of the precisions."""

    score: float
    signature: str
    """How it was computed: `nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:…`."""
    precisions: tuple[float, ...]
    """Of the translations' sequences of 1, 2, 3 and 4 words, the percentage that the reference has too."""
    brevity_penalty: float
    """e^(1 − reference / hypothesis) where the translations are the shorter ones, else 1."""
    hypothesis_length: int
    """In words of the signature's tokenizer, as the next."""
    reference_length: int
    low: float | None = None
    """With 95 % confidence it lies between `low` and `high` for all such sentences; None if that was not asked."""
    high: float | None = None


@dataclass(frozen=True)
class ChrF:
    """chrF of a text, 0 to 100: F₂ of sequences of 1 to 6 characters (Popović 2015)."""

    score: float
    signature: str


def bleu(hypotheses: Sequence[str], references: Sequence[str], *, resamples: int = 0) -> Bleu:
    """BLEU of translations, one reference to each, both as they are written (not tokenised), case and all.

    resamples: texts that are drawn from these sentences for an interval (bootstrap, Koehn 2004; 1000 is usual): the
    mean of their scores ± half of what the middle 95 % of them span. The draws are the same each time.
    Raises DataError where there are not as many of one as of the other, SurroundingsError without sacrebleu.
    """
    check_counts(hypotheses, references)
    metric = metrics().BLEU(force=True)  # else it warns of texts in which full stops stand alone
    found = metric.corpus_score(hypotheses, [references], n_bootstrap=max(1, resamples))
    drawn = resamples > 1
    return Bleu(
        score=found.score,
        signature=str(metric.get_signature()),
        precisions=tuple(found.precisions),
        brevity_penalty=found.bp,
        hypothesis_length=found.sys_len,
        reference_length=found.ref_len,
        low=found._mean - found._ci if drawn else None,  # it has no public name for them
        high=found._mean + found._ci if drawn else None,
    )


def chrf(hypotheses: Sequence[str], references: Sequence[str]) -> ChrF:
    """chrF of translations, for languages with long words, and where BLEU has nothing to count. Raises as `bleu`."""
    check_counts(hypotheses, references)
    metric = metrics().CHRF()
    return ChrF(metric.corpus_score(hypotheses, [references]).score, str(metric.get_signature()))


def exact(hypotheses: Sequence[str], references: Sequence[str]) -> Estimate:
    """The share of translations that are their reference, to the character, with Wilson's interval."""
    check_counts(hypotheses, references)
    same = sum(here == there for here, there in zip(hypotheses, references, strict=True))
    return wilson(same, len(references))


def check_counts(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """DataError where sentences have no partner, or where there are none."""
    if len(hypotheses) != len(references):
        raise DataError(
            f"{len(hypotheses):,} translations cannot be compared with {len(references):,} references",
            hint="one line a sentence in both",
        )
    if not references:
        raise DataError("there are no translations to score", hint="at least one sentence")


def metrics() -> Any:
    """sacrebleu's measures. SurroundingsError where it is not installed."""
    try:
        from sacrebleu import metrics as found
    except ImportError as error:
        raise missing_extra("sacrebleu", "eval") from error
    return found
