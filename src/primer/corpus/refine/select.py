"""From measurements to reasons: the thresholds, applied in the recipe's order. The first rule that is broken drops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from primer.config import to_dict
from primer.corpus.refine.recipe import Recipe
from primer.corpus.text.rules import RULES

STAGES = (
    "records",
    "urls",
    "extract",
    "language",
    "repetition",
    "quality",
    "c4",
    "fineweb",
    "classifier",
    "decontaminate",
    "dedup",
)
"""In order; a document is dropped at the first of them that has something against it."""

SAID = {"records": "record_reason", "urls": "url_reason", "extract": "extract_reason"}
"""Stages that say themselves what is wrong, and in which column."""

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Limit:
    """A threshold on a column: what is above (or below) it is dropped."""

    stage: str
    reason: str
    column: str
    above: bool
    threshold: float
    setting: str
    """The recipe's key that it comes from."""

    def breaks(self, values: Floats) -> Flags:
        """Which values break it. What was not measured breaks nothing."""
        with np.errstate(invalid="ignore"):
            return values > self.threshold if self.above else values < self.threshold


SETTINGS = {
    **{
        f"dup_{what}_frac": f"repetition.dup_{what}_frac"
        for what in ("para", "para_char", "line", "line_char")
    },
    **{f"top_{n}_gram": f"repetition.top_{n}_gram" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"repetition.duplicated_{n}_grams" for n in range(5, 11)},
    "gopher_short_doc": "quality.min_words",
    "gopher_long_doc": "quality.max_words",
    "gopher_below_avg_threshold": "quality.min_mean_word_length",
    "gopher_above_avg_threshold": "quality.max_mean_word_length",
    "gopher_too_many_hashes": "quality.max_hashes_per_word",
    "gopher_too_many_ellipsis": "quality.max_ellipses_per_word",
    "gopher_too_many_bullets": "quality.max_bullet_lines",
    "gopher_too_many_end_ellipsis": "quality.max_ellipsis_lines",
    "gopher_below_alpha_threshold": "quality.min_alpha_words",
    "gopher_enough_stop_words": "quality.min_stop_words",
    "lorem_ipsum": "c4.lorem_ipsum",
    "curly_bracket": "c4.curly_bracket",
    "too_few_sentences": "c4.min_sentences",
    "line_punct_ratio": "fineweb.min_line_punct",
    "short_line_ratio": "fineweb.max_short_lines",
    "char_dup_ratio": "fineweb.max_char_dup",
    "list_ratio": "fineweb.max_newlines_per_word",
}
"""The key of the recipe by datatrove's name for the reason. What has none ("empty") always applies."""


def limits(recipe: Recipe) -> list[Limit]:
    """The thresholds that a recipe applies, in datatrove's order. One that is 0 (or false) is turned off."""
    tables = to_dict(recipe)
    found = []
    for rule in RULES:
        stage = rule.stage.removeprefix("gopher_")
        setting = SETTINGS.get(rule.reason, "")
        table, _, name = setting.partition(".")
        value = tables[table][name] if setting else rule.threshold
        if (setting and not value) or not tables[stage]["on"]:
            continue
        threshold = rule.threshold if isinstance(value, bool) else float(value)
        found.append(Limit(stage, rule.reason, rule.column, rule.above, threshold, setting))
    return found


def columns(recipe: Recipe) -> list[str]:
    """The columns that a decision needs."""
    return [
        *SAID.values(),
        "languages",
        "scores",
        "good",
        "items",
        *dict.fromkeys(limit.column for limit in limits(recipe)),
    ]


def settings(recipe: Recipe) -> dict[str, Any]:
    """All that decides, given the measurements."""
    return {
        "limits": [
            [each.stage, each.reason, each.column, each.above, each.threshold] for each in limits(recipe)
        ],
        "keep": list(recipe.language.keep),
        "threshold": recipe.language.threshold,
        "classifier": recipe.classifier.threshold if recipe.classifier.model else None,
        "contaminated": recipe.decontaminate.action,
    }


def decide(table: Any, recipe: Recipe) -> tuple[list[str | None], list[str | None]]:
    """(stage, reason) of each row of a table of measurements; None for what stands."""
    rows = table.num_rows
    stages: list[str | None] = [None] * rows
    reasons: list[str | None] = [None] * rows
    standing = np.ones(rows, dtype=bool)

    def drop(stage: str, broken: Flags, reason: Callable[[int], str]) -> None:
        for row in np.flatnonzero(broken & standing):
            stages[row], reasons[row] = stage, reason(int(row))
        standing[broken] = False

    for stage, column in SAID.items():
        said = table[column].to_pylist()
        drop(stage, np.array([each is not None for each in said], dtype=bool), said.__getitem__)
    names, scores = table["languages"].to_pylist(), table["scores"].to_pylist()
    unwanted = [not _wanted(one, other, recipe) for one, other in zip(names, scores, strict=True)]
    drop("language", np.array(unwanted, dtype=bool), lambda row: _language(names[row]))
    for limit in limits(recipe):
        values = table[limit.column].to_numpy(zero_copy_only=False)
        drop(limit.stage, limit.breaks(values), partial(_always, limit.reason))
    if recipe.classifier.model:
        good = table["good"].to_numpy(zero_copy_only=False)
        drop("classifier", ~(good >= recipe.classifier.threshold), partial(_always, "low_score"))
    if recipe.decontaminate.action == "drop":
        found = np.array([bool(items) for items in table["items"].to_pylist()], dtype=bool)
        drop("decontaminate", found, partial(_always, "contaminated"))
    return stages, reasons


def _always(reason: str, row: int) -> str:
    return reason


def _wanted(names: Sequence[str] | None, scores: Sequence[float] | None, recipe: Recipe) -> bool:
    """Any of the languages to keep is likelier than the threshold."""
    keep, threshold = recipe.language.keep, recipe.language.threshold
    if names is None or scores is None:
        return True
    if not keep and not threshold:
        return True
    likely = (score for name, score in zip(names, scores, strict=True) if not keep or name in keep)
    return any(score > threshold for score in likely)


def _language(names: Sequence[str]) -> str:
    """What it was taken for: the reason that the report shows."""
    return f"language_{names[0]}" if names else "language_unknown"
