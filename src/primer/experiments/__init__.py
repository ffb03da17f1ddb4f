"""Answers to "why": trainings that differ in one thing each, compared with an interval."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from primer.experiments import table_3
from primer.experiments.experiment import Experiment


@dataclass(frozen=True)
class Question:
    """What can be asked by name, and how it is answered on the text that a person's flags ask for."""

    text: str
    experiment: Callable[[Mapping[str, Any]], Experiment]


QUESTIONS = {table_3.NAME: Question(table_3.QUESTION, table_3.experiment)}
