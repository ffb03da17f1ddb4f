"""An experiment: a question, a base, and variants that differ from it in one thing each.

Every variant is trained with the same seeds as the base, so that runs are compared in pairs: the same order of the same
batches and, where sizes agree, the same first weights. What a seed brings by chance is then not taken for an effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from primer.errors import UsageError, nearest

if TYPE_CHECKING:
    from primer.evals.likelihood import Progress
    from primer.recipes.loaded import Run


@dataclass(frozen=True)
class Measure:
    """What is measured of every finished run, and how two of them are compared."""

    name: str
    about: str
    of: Callable[[Run, Progress], float]
    """The value of a finished run; told (done, all) on the way."""
    better: Literal["lower", "higher"] = "lower"
    logarithmic: bool = False
    """Whether differences are of logarithms: those of perplexities are nats then."""
    digits: int = 3
    """Of a value, behind the point."""
    finer: int = 3
    """Of a difference."""

    def difference(self, value: float, base: float) -> float:
        """How far a value lies above the base's."""
        return math.log(value / base) if self.logarithmic else value - base


@dataclass(frozen=True)
class Variant:
    """The base with one thing changed."""

    name: str
    """As it is typed: h=4."""
    flags: Mapping[str, Any] = field(default_factory=dict)
    """What is changed, by dotted key."""
    row: str = ""
    """Its place in a table that others have printed."""
    published: Mapping[str, float] = field(default_factory=dict)
    """What they have measured, by the name of the measure; and `parameters`, where they say."""

    @property
    def stem(self) -> str:
        """What is varied: h."""
        return self.name.partition("=")[0]

    @property
    def words(self) -> tuple[str, ...]:
        """What it may be called by."""
        return tuple(word for word in (self.name, self.stem, self.row) if word)


@dataclass(frozen=True)
class Experiment:
    """A question that some trainings answer."""

    name: str
    question: str
    recipe: str
    """Of the base."""
    measures: tuple[Measure, ...]
    variants: tuple[Variant, ...]
    base: Variant = Variant("base")
    flags: Mapping[str, Any] = field(default_factory=dict)
    """What the base changes in its recipe."""
    published_by: str = ""
    """Whose figures the variants' `published` are."""
    notes: tuple[str, ...] = ()
    """What is to be known before it begins."""
    seeds: int = 3
    """Trainings of each variant in the shipped evidence."""
    prepare: Callable[[Callable[[str], None]], None] | None = None
    """Makes what the trials train on, where that is not simply a text; told whom to tell how far it is."""
    asked: tuple[str, ...] = ()
    """Dotted flags that say what `prepare` reads. They are not the trainings'."""
    seen: str = ""
    """What was seen when it was carried out in full."""

    def chosen(self, words: str) -> tuple[Variant, ...]:
        """The variants that words with commas between them call: by name (h=4), what is varied (h), or row (A).

        All of them where there is no word. UsageError for a word that calls none.
        """
        wanted = [word.strip() for word in words.split(",") if word.strip()]
        known = [word for variant in self.variants for word in variant.words]
        for word in wanted:
            if word not in (*known, self.base.name):
                stems = list(dict.fromkeys(variant.stem for variant in self.variants))
                close = nearest(word, known)
                raise UsageError(
                    f"{self.name} has no variant {word!r}",
                    f"primer why {self.name}",
                    f"--variants={close}" if close else f"--variants={','.join(stems)}, or some of these",
                )
        return tuple(each for each in self.variants if not wanted or set(each.words) & set(wanted))
