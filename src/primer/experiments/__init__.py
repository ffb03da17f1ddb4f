"""Answers to "why": trainings (or sums) that differ in one thing each, compared with an interval."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from primer.experiments import arithmetic, filters, number_formats, table_3
from primer.experiments.calculation import Calculation
from primer.experiments.experiment import Experiment


@dataclass(frozen=True)
class Question:
    """What can be asked by name, and how it is answered on the text that a person's flags ask for."""

    text: str
    experiment: Callable[[Mapping[str, Any]], Experiment | Calculation]


def _always(answer: Experiment | Calculation) -> Question:
    """A question whose answer is sought in one way, whatever a person's flags."""
    return Question(answer.question, lambda flags: answer)


QUESTIONS = {
    table_3.NAME: Question(table_3.QUESTION, table_3.experiment),
    filters.NAME: Question(filters.QUESTION, filters.experiment),
    **{each.name: _always(each) for each in (*arithmetic.CALCULATIONS, *number_formats.EXPERIMENTS)},
}
