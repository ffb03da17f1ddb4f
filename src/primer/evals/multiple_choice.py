"""How often a model finds the right answer the likeliest, as the papers count it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from primer.errors import DataError
from primer.evals.interval import Estimate, Z, wilson
from primer.evals.likelihood import Likelihood, Pair, Progress, encode_pair, log_likelihoods
from primer.evals.questions import Kind, Question
from primer.evals.tasks import Task
from primer.models.gpt import GPT
from primer.tokens.char import UnknownCharacterError
from primer.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class TaskScore:
    """Of a model on a task. Of candidates that are equally likely the first counts."""

    task: str
    kind: Kind
    questions: int
    shots: int
    accuracy: Estimate
    """How often Σ log p is highest for the right candidate; for a cloze, how often greedy decoding writes it."""
    by_character: Estimate | None
    """… when Σ log p is divided by the continuation's characters: lm-evaluation-harness' `acc_norm`."""
    by_byte: Estimate | None
    """… by its UTF-8 bytes: the harness' `acc_bytes`, the same where the text is ASCII."""
    by_token: Estimate | None
    """… by its tokens: `acc_norm` of llm.c, build-nanogpt and nanoGPT's followers."""
    chance: float | None
    """What guessing gets."""
    perplexity: Estimate | None
    """Of a cloze: e^(mean −log p of a continuation, all its tokens together), as the harness has it for LAMBADA."""
    cut: int
    """Questions whose context was longer than the model's, and lost its beginning."""


def score_task(
    model: GPT,
    tokenizer: Tokenizer,
    task: Task,
    *,
    tokens_at_once: int | None = None,
    progress: Progress = lambda done, total: None,
) -> TaskScore:
    """Score every candidate of every question. `progress` counts candidates.

    Lengths are those of the continuation alone, without what joins it to its context; of an empty one, 1. The
    candidates of a schema have one continuation, so there is nothing to divide by. Raises DataError for a character
    that the tokenizer does not know, with its line.
    """
    pairs = [pair for question in task.questions for pair in encode(tokenizer, question)]
    scores = log_likelihoods(model, pairs, tokens_at_once=tokens_at_once, progress=progress)
    answers, start = [], 0
    for question in task.questions:
        answers.append((question, scores[start : start + len(question.candidates)]))
        start += len(question.candidates)
    cloze, choice = task.kind == "cloze", task.kind == "multiple_choice"
    return TaskScore(
        task=task.name,
        kind=task.kind,
        questions=len(answers),
        shots=task.shots,
        accuracy=_share([found[0].greedy for _, found in answers]) if cloze else _right(answers, _one),
        by_character=_right(answers, lambda text, found: len(text)) if choice else None,
        by_byte=_right(answers, lambda text, found: len(text.encode())) if choice else None,
        by_token=_right(answers, lambda text, found: found.tokens) if choice else None,
        chance=None if cloze else sum(1 / len(found) for _, found in answers) / len(answers),
        perplexity=_perplexity([-found[0].log_p for _, found in answers]) if cloze else None,
        cut=sum(any(each.cut for each in found) for _, found in answers),
    )


def encode(tokenizer: Tokenizer, question: Question) -> list[Pair]:
    """The candidates as ids."""
    try:
        return [encode_pair(tokenizer, *candidate) for candidate in question.candidates]
    except UnknownCharacterError as error:
        raise DataError(error.cause, question.where, "--unknown=skip") from error
    except DataError as error:
        raise DataError(error.cause, question.where, error.hint) from error


Answers = Sequence[tuple[Question, Sequence[Likelihood]]]
Length = Callable[[str, Likelihood], int]


def _one(text: str, found: Likelihood) -> int:
    return 1


def _right(answers: Answers, length: Length) -> Estimate:
    """How often the right candidate has the highest log p / length."""
    right = []
    for question, found in answers:
        texts = (continuation for _, continuation in question.candidates)
        values = [each.log_p / max(1, length(text, each)) for text, each in zip(texts, found, strict=True)]
        right.append(int(np.argmax(values)) == question.gold)
    return _share(right)


def _share(right: Sequence[bool]) -> Estimate:
    return wilson(sum(right), len(right))


def _perplexity(nats: Sequence[float]) -> Estimate:
    """e^mean; the interval is e^(mean ± z·s/√n), s the nats' standard deviation (unbounded above for one text)."""
    mean, n = sum(nats) / len(nats), len(nats)
    error = Z * float(np.std(nats, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    low, value, high = (math.exp(min(each, 700.0)) for each in (mean - error, mean, mean + error))
    return Estimate(value, low, high)
