"""FineWeb's filters as data: which statistic is compared with which threshold, in which order, and what is said then.

Thresholds and reasons are those of datatrove 0.10.1, which made FineWeb. Where a paper has another number:

| rule | paper | here |
|---|---|---|
| char_dup_ratio | 0.1 (FineWeb 3.6; Gopher's for the same is 0.2) | 0.01 |
| list_ratio | not mentioned by FineWeb | 0.3 |
| sentences, words a line | C4's own script: 3 and 5 | 5 and 3 |
| C4's bad words, three-sentence spans | both drop text | FineWeb uses neither |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """Drops a page whose `column` is above (else: below) the threshold. NaN is neither."""

    stage: str
    column: str
    above: bool
    threshold: float
    reason: str

    def drops(self, value: float) -> bool:
        return value > self.threshold if self.above else value < self.threshold


def _repetition(column: str, threshold: float) -> Rule:
    return Rule("gopher_repetition", column, True, threshold, column)


RULES: tuple[Rule, ...] = (
    Rule("gopher_repetition", "characters", False, 1, "empty"),
    _repetition("dup_para_frac", 0.3),
    _repetition("dup_para_char_frac", 0.2),
    _repetition("dup_line_frac", 0.3),
    _repetition("dup_line_char_frac", 0.2),
    _repetition("top_2_gram", 0.2),
    _repetition("top_3_gram", 0.18),
    _repetition("top_4_gram", 0.16),
    _repetition("duplicated_5_n_grams", 0.15),
    _repetition("duplicated_6_n_grams", 0.14),
    _repetition("duplicated_7_n_grams", 0.13),
    _repetition("duplicated_8_n_grams", 0.12),
    _repetition("duplicated_9_n_grams", 0.11),
    _repetition("duplicated_10_n_grams", 0.10),
    Rule("gopher_quality", "n_words", False, 50, "gopher_short_doc"),
    Rule("gopher_quality", "n_words", True, 100_000, "gopher_long_doc"),
    Rule("gopher_quality", "mean_word_length", False, 3, "gopher_below_avg_threshold"),
    Rule("gopher_quality", "mean_word_length", True, 10, "gopher_above_avg_threshold"),
    Rule("gopher_quality", "hash_ratio", True, 0.1, "gopher_too_many_hashes"),
    Rule("gopher_quality", "ellipsis_ratio", True, 0.1, "gopher_too_many_ellipsis"),
    Rule("gopher_quality", "bullet_lines", True, 0.9, "gopher_too_many_bullets"),
    Rule("gopher_quality", "ellipsis_lines", True, 0.3, "gopher_too_many_end_ellipsis"),
    Rule("gopher_quality", "alpha_words", False, 0.8, "gopher_below_alpha_threshold"),
    Rule("gopher_quality", "stop_words", False, 2, "gopher_enough_stop_words"),
    Rule("c4", "lorem_ipsum_first", True, 0, "lorem_ipsum"),
    Rule("c4", "curly_bracket", True, 0, "curly_bracket"),
    Rule("c4", "lorem_ipsum", True, 0, "lorem_ipsum"),
    Rule("c4", "sentences", False, 5, "too_few_sentences"),
    Rule("fineweb", "nonblank_lines", False, 1, "empty"),
    Rule("fineweb", "line_punct_ratio", False, 0.12, "line_punct_ratio"),
    Rule("fineweb", "short_line_ratio", True, 0.67, "short_line_ratio"),
    Rule("fineweb", "char_dup_ratio", True, 0.01, "char_dup_ratio"),
    Rule("fineweb", "list_ratio", True, 0.3, "list_ratio"),
)
"""The rules in the order in which datatrove asks them. (The second one on "lorem ipsum" is for those who strike the one
on curly brackets; while that one stands it never speaks.)"""


def decide(values: Mapping[str, float], rules: Iterable[Rule] = RULES) -> Rule | None:
    """The first rule that drops a page with these statistics, or None: it stays."""
    return next((rule for rule in rules if rule.drops(values[rule.column])), None)
