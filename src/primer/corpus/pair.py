"""A sentence and its translation, and what was left out of them."""

from __future__ import annotations

from dataclasses import dataclass, field

_SAMPLE = 60  # characters of a sample


@dataclass(frozen=True, slots=True)
class Pair:
    """What goes in and what is to come out."""

    source: str
    target: str
    place: str
    """Where it comes from, to be named in errors and samples: `train.en:17`."""


@dataclass
class Rejected:
    """Pairs that were left out: how many for each reason, and the first of each as a sample."""

    counts: dict[str, int] = field(default_factory=dict)
    samples: dict[str, tuple[str, str]] = field(default_factory=dict)
    """(place, text, shortened) by reason."""

    def add(self, reason: str, place: str, text: str) -> None:
        """Count one pair more."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if reason not in self.samples:
            self.samples[reason] = place, text if len(text) <= _SAMPLE else f"{text[:_SAMPLE]}…"

    @property
    def total(self) -> int:
        """How many there are, whatever the reason."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        """In one line, the most frequent reason first: `2 fuzzy (de.po:40: "Open")`, or nothing at all."""
        order = sorted(self.counts, key=lambda reason: -self.counts[reason])
        return ", ".join(f"{self.counts[reason]:,} {reason} ({self._sample(reason)})" for reason in order)

    def _sample(self, reason: str) -> str:
        place, text = self.samples[reason]
        return f'{place}: "{text}"' if text else place
