"""How to choose a token, as a frozen value. No torch here: help must answer at once."""

from __future__ import annotations

from dataclasses import dataclass

from primer.errors import UsageError


@dataclass(frozen=True)
class Sampling:
    """Filters between logits and the choice, in the order in which they apply; by default none does anything."""

    repetition_penalty: float = 1.0
    """Positive logits of tokens in sight are divided by it, others multiplied (Keskar et al. 2019, §4.1)."""
    temperature: float = 1.0
    """Logits are divided by this: below 1 the likely become likelier. 0: always the likeliest (greedy)."""
    top_k: int = 0
    """Only the k likeliest tokens (Fan et al. 2018, §5.4); ties with the k-th stay. 0: all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together just reach probability p (Holtzman et al. 2020, §3.1)."""
    min_p: float = 0.0
    """Only tokens at least this share as likely as the likeliest one (Nguyen et al. 2024, §3)."""

    def __post_init__(self) -> None:
        ranges = {
            "repetition_penalty": (0 < self.repetition_penalty < float("inf"), "positive"),
            "temperature": (0 <= self.temperature < float("inf"), "0 or positive"),
            "top_k": (self.top_k >= 0, "0 or positive"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "between 0 and 1"),
        }
        for name, (possible, range_) in ranges.items():
            if not possible:
                raise UsageError(f"{name} must be {range_}, got {getattr(self, name)}")


@dataclass(frozen=True)
class BeamConfig:
    """How to search for a translation (`generation/beam.py`); by default as Vaswani et al. 2017, §6.1."""

    beam: int = 4
    """Unfinished hypotheses that are kept after each token. 1: greedy decoding."""
    length_penalty: float = 0.6
    """α of the length penalty (Wu et al. 2016, eq. 14): the larger, the longer. 0: the likeliest sentence wins."""
    extra_length: int = 50
    """A translation has at most so many tokens more than its source."""

    def __post_init__(self) -> None:
        for name, least, highest, papers in (
            ("beam", 1, 1000, 4),
            ("length_penalty", 0, 5, 0.6),
            ("extra_length", 0, 1_000_000, 50),
        ):
            if not least <= getattr(self, name) <= highest:
                raise UsageError(
                    f"translate.{name} must lie between {least} and {highest:,}, got {getattr(self, name):,}",
                    hint=f"{papers}, as in the paper",
                )
