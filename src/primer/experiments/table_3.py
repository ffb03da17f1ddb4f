"""Table 3 of the paper in miniature: what each choice of the Transformer is worth, by changing one at a time.

Model, text and number of steps are smaller, so the figures themselves say nothing about the paper's. What is compared
is by how much a choice moves them, and in which direction: ours − our base, theirs − their base.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from primer.assets import data_dir, find
from primer.config import spelt
from primer.corpus.parallel import MULTI30K
from primer.errors import SurroundingsError
from primer.experiments.experiment import Experiment, Variant
from primer.experiments.measures import BLEU, EXACT, PERPLEXITY

NAME = "table-3"
QUESTION = "What is each choice of the Transformer worth: heads, sizes, dropout, smoothing, positions?"
SOURCE = "Vaswani et al. 2017 (v7), table 3"

DATES = {"data.source": "dates", "data.vocab_size": 257, "train.evaluate_pairs": 500}
"""Dates are read letter by letter, as in recipe `dates`."""


def _theirs(perplexity: float, bleu: float, millions: float | None = None) -> dict[str, float]:
    """A line of the table: perplexity (a wordpiece) and BLEU on newstest2013, and parameters where they are printed."""
    sizes = {} if millions is None else {"parameters": millions * 1e6}
    return {"perplexity": perplexity, "bleu": bleu, **sizes}


def _row(row: str, name: str, flag: str, value: Any, theirs: Mapping[str, float]) -> Variant:
    return Variant(name, {flag: value}, row, theirs)


BASE = Variant("base", {}, "", _theirs(4.92, 25.8, 65))
"""Theirs: N = 6, d_model = 512, d_ff = 2048, h = 8, d_k = d_v = 64, P_drop = ε_ls = 0.1. Ours: recipe `table-3`."""

VARIANTS = (
    _row("A", "h=1", "model.n_heads", 1, _theirs(5.29, 24.9)),
    _row("A", "h=4", "model.n_heads", 4, _theirs(5.00, 25.5)),
    _row("A", "h=16", "model.n_heads", 16, _theirs(4.91, 25.8)),
    _row("A", "h=32", "model.n_heads", 32, _theirs(5.01, 25.4)),
    _row("B", "d_k=4", "model.d_k", 4, _theirs(5.16, 25.1, 58)),
    _row("B", "d_k=8", "model.d_k", 8, _theirs(5.01, 25.4, 60)),
    _row("C", "N=1", "model.n_layers", 1, _theirs(6.11, 23.7, 36)),
    _row("C", "N=2", "model.n_layers", 2, _theirs(5.19, 25.3, 50)),
    _row("C", "N=4", "model.n_layers", 4, _theirs(4.88, 25.5, 80)),
    _row("C", "d_model=64", "model.d_model", 64, _theirs(5.75, 24.5, 28)),
    _row("C", "d_model=256", "model.d_model", 256, _theirs(4.66, 26.0, 168)),
    _row("C", "d_ff=256", "model.d_ff", 256, _theirs(5.12, 25.4, 53)),
    _row("C", "d_ff=1024", "model.d_ff", 1024, _theirs(4.75, 26.2, 90)),
    _row("D", "dropout=0", "model.dropout", 0.0, _theirs(5.77, 24.6)),
    _row("D", "dropout=0.2", "model.dropout", 0.2, _theirs(4.95, 25.5)),
    _row("D", "smoothing=0", "train.label_smoothing", 0.0, _theirs(4.67, 25.3)),
    _row("D", "smoothing=0.2", "train.label_smoothing", 0.2, _theirs(5.47, 25.7)),
    _row("E", "positions=learned", "model.positions", "learned", _theirs(4.92, 25.7)),
)
"""Ours beside theirs, a line each, in their order. Their d_k are 16 and 32, N 2, 4 and 8, d_model 256 and 1024, d_ff
1024 and 4096: the same parts and multiples of the base. In row (A) all heads share one width between them, so that they
cost the same (§3.2.2). Their `big` changes several things at once, and is none of these.
"""


def experiment(flags: Mapping[str, Any]) -> Experiment:
    """The experiment on the text that `flags` ask for, else on Multi30k where it is here, else on dates.

    Of dates the share of right ones is measured instead of BLEU. Nothing is downloaded unless it was asked for.
    """
    flags = spelt(flags)
    source = flags.get("data.source") or ("multi30k" if multi30k_is_here() else "dates")
    of_dates = source == "dates"
    measures, notes = [PERPLEXITY], []
    if of_dates and "data.source" not in flags:
        notes.append("Multi30k is not here, so dates are read; --data.source=multi30k fetches it (1.3 MB)")
    if of_dates and flags.get("train.evaluate_pairs") != 0:
        measures.append(EXACT)
    if not of_dates and find_spec("sacrebleu"):
        measures.append(BLEU)
    elif not of_dates:
        notes.append('no BLEU without sacrebleu: python -m pip install "gpt-primer[eval]"')
    return Experiment(
        name=NAME,
        question=QUESTION,
        recipe=NAME,
        measures=tuple(measures),
        variants=VARIANTS,
        base=BASE,
        flags=DATES if of_dates else {},
        published_by=SOURCE,
        notes=tuple(notes),
    )


def multi30k_is_here() -> bool:
    """Whether its files lie where named texts are looked for."""
    data_dir()  # a PRIMER_DATA that names no folder is an error, not an absence
    try:
        for asset in (asset for pair in MULTI30K.values() for asset in pair):
            find(asset, download=False)
    except SurroundingsError:
        return False
    return True
