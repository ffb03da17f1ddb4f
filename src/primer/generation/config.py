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
