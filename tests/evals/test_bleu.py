"""BLEU and chrF against their definitions, counted by hand, and against sacrebleu's own calls."""

import math
import sys
from collections import Counter

import numpy as np
import pytest

from primer.errors import DataError, SurroundingsError
from primer.evals.bleu import bleu, chrf, exact
from primer.evals.interval import wilson

sacrebleu = pytest.importorskip("sacrebleu")

HYPOTHESES = ["the cat sat on the mat", "there is a dog here"]
REFERENCES = ["the cat sat on a mat", "there is a small dog here today"]


def test_bleu_of_two_sentences_counted_by_hand() -> None:
    found = bleu(HYPOTHESES, REFERENCES)
    precisions = (10 / 11, 6 / 9, 3 / 7, 1 / 5)  # "the" counts once: the reference has one
    assert found.precisions == pytest.approx([100 * p for p in precisions], rel=1e-12)
    assert (found.hypothesis_length, found.reference_length) == (11, 13)
    assert found.brevity_penalty == pytest.approx(math.exp(1 - 13 / 11), rel=1e-12)
    assert found.score == pytest.approx(
        100 * math.exp(1 - 13 / 11) * math.prod(precisions) ** 0.25, rel=1e-12
    )
    assert found.low is None
    assert found.high is None


def test_references_and_translations_are_not_exchanged() -> None:
    found = bleu(REFERENCES, HYPOTHESES)
    assert (found.hypothesis_length, found.reference_length, found.brevity_penalty) == (13, 11, 1.0)
    assert found.precisions[0] == pytest.approx(100 * 10 / 13, rel=1e-12)


TEXTS = [
    ("Das ist, mit Verlaub, ein Test.", "Das ist mit Verlaub ein Test."),
    ("Er kostet 3.50 € – mehr nicht .", "Er kostet 3,50 € – nicht mehr."),
    ("wer weiß", "Wer weiß?"),
    ("", "Gar nichts"),
    ("ganz genau gleich, Wort für Wort", "ganz genau gleich, Wort für Wort"),
    ("ein zwei drei vier fünf", "fünf vier drei zwei eins"),
]


def test_it_is_sacrebleu_in_its_defaults() -> None:
    hypotheses, references = zip(*TEXTS, strict=True)
    theirs = sacrebleu.corpus_bleu(hypotheses, [references])
    found = bleu(hypotheses, references)
    assert 0 < found.score < 100
    assert found.score == theirs.score
    assert list(found.precisions) == theirs.precisions
    assert found.signature == (
        f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    )
    assert chrf(hypotheses, references).score == sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert chrf(hypotheses, references).signature == (
        f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{sacrebleu.__version__}"
    )


def test_the_interval_is_that_of_texts_drawn_from_these_sentences() -> None:
    hypotheses, references = zip(*TEXTS, strict=True)
    found = bleu(hypotheses, references, resamples=80)
    draws = np.random.default_rng(12345).choice(len(TEXTS), size=(80, len(TEXTS)))
    scores = sorted(
        bleu([hypotheses[n] for n in draw], [references[n] for n in draw]).score for draw in draws
    )
    mean, half = sum(scores) / 80, (scores[-3] - scores[2]) / 2  # two of 80 lie beyond each end
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half), rel=1e-5)
    assert found.score == bleu(hypotheses, references).score
    assert "bs:80|seed:12345" in found.signature
    assert bleu(hypotheses, references, resamples=80) == found


def test_chrf_of_a_word_by_its_definition() -> None:
    """Means over n of the precision and the recall of n characters in a row; recall counts four times as much."""
    here, there = "übersetzungen", "übersetzung"
    precisions, recalls = [], []
    for n in range(1, 7):
        a, b = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (here, there))
        precisions.append((a & b).total() / a.total())
        recalls.append((a & b).total() / b.total())
    p, r = sum(precisions) / 6, sum(recalls) / 6
    assert chrf([here], [there]).score == pytest.approx(100 * 5 * p * r / (4 * p + r), rel=1e-9)


def test_exact_is_a_share_with_its_interval() -> None:
    hypotheses, references = zip(*TEXTS, strict=True)
    assert exact(hypotheses, references) == wilson(1, 6)
    assert exact(references, references) == wilson(6, 6)
    assert exact(["a "], ["a"]).value == 0


@pytest.mark.parametrize("measure", [bleu, chrf, exact])
def test_sentences_without_a_partner_are_counted(measure) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="1,200 translations cannot be compared with 3 references"):
        measure(["a"] * 1200, ["a"] * 3)
    with pytest.raises(DataError, match="no translations"):
        measure([], [])


@pytest.mark.parametrize("measure", [bleu, chrf])
def test_what_to_install_is_said(measure, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(SurroundingsError, match="sacrebleu is not installed") as error:
        measure(["a"], ["a"])
    assert error.value.hint == 'python -m pip install "gpt-primer[eval]"'
    assert exact(["a"], ["a"]).value == 1, "which needs nothing"


def test_tokenised_looking_text_is_scored_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    text = ["Ein Satz ."] * 120
    assert bleu(text, text).precisions[0] == 100
    assert not caplog.records
