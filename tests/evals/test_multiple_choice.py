"""Accuracies against a slow judge: every ending alone, in float64, from words to verdict without any of our code."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from merging import MergingTokenizer
from primer.errors import DataError
from primer.evals import multiple_choice
from primer.evals.interval import Z, wilson
from primer.evals.likelihood import Likelihood
from primer.evals.multiple_choice import score_task
from primer.evals.questions import Question
from primer.evals.tasks import Task, read_task
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.tokens.char import ByteTokenizer, CharTokenizer
from primer.tokens.tokenizer import Tokenizer

WORDS = MergingTokenizer()
SEED = 0


def model(tokenizer: Tokenizer, context_length: int = 64) -> GPT:
    torch.manual_seed(1)
    sizes = {"context_length": context_length, "d_model": 32, "n_layers": 2, "n_heads": 2}
    return GPT(GPTConfig(vocab_size=tokenizer.vocab_size + 7, **sizes, init_std=0.3))  # type: ignore[arg-type]


@torch.no_grad()
def nats_of(judge: GPT, tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[float], bool]:
    """−log p of each token of `continuation` (which begins with its space), and whether all are the likeliest."""
    before, ids = tokenizer.encode(context).tolist(), tokenizer.encode(context + continuation).tolist()
    count = len(ids) - len(before)
    seen = ids[:-1][-judge.config.context_length :]
    logits = judge.double().eval()(torch.tensor([seen]))[0, -count:]
    judge.float()
    nats = [-math.log(float(row.softmax(-1)[token])) for row, token in zip(logits, ids[-count:], strict=True)]
    return nats, logits.argmax(-1).tolist() == ids[-count:]


def share(questions: list[tuple[int, list[float]]]) -> float:
    """How often the right candidate has the lowest loss."""
    return sum(losses.index(min(losses)) == gold for gold, losses in questions) / len(questions)


def endings(seed: int) -> list[dict[str, object]]:
    """Questions whose endings differ in characters, bytes and tokens; no token spans a border."""
    draw = np.random.default_rng(seed)
    words = ["the", "times", "€", "€€ä", "a", "two is", "ing", "er", "x", "zz", "ooo", "an", "ß"]

    def text(most: int) -> str:
        return " ".join(words[i] for i in draw.integers(len(words), size=1 + draw.integers(most)))

    return [
        {"query": text(6), "choices": [text(7) for _ in range(4)], "gold": int(draw.integers(4))}
        for _ in range(60)
    ]


@pytest.mark.parametrize("tokenizer", [WORDS, ByteTokenizer()], ids=["merging", "byte"])
@pytest.mark.parametrize("tokens_at_once", [64, 4096])
def test_multiple_choice_is_what_the_slow_judge_says(
    tokenizer: Tokenizer, tokens_at_once: int, tmp_path: Path
) -> None:
    file = tmp_path / "task.jsonl"
    records = endings(SEED)
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    judge = model(tokenizer, 128)
    found = score_task(judge, tokenizer, read_task(file), tokens_at_once=tokens_at_once)
    lengths: dict[str, Callable[[str, list[float]], int]] = {
        "accuracy": lambda text, nats: 1,
        "by_character": lambda text, nats: len(text),
        "by_byte": lambda text, nats: len(text.encode()),
        "by_token": lambda text, nats: len(nats),
    }
    right = {}
    losses = [
        [(each, nats_of(judge, tokenizer, str(record["query"]), f" {each}")[0]) for each in record["choices"]]  # type: ignore[attr-defined]
        for record in records
    ]
    for name, length in lengths.items():
        right[name] = share(
            [
                (record["gold"], [sum(nats) / length(text, nats) for text, nats in candidates])  # type: ignore[misc]
                for record, candidates in zip(records, losses, strict=True)
            ]
        )
        assert getattr(found, name).value == pytest.approx(right[name], abs=1e-12), name
        assert getattr(found, name) == wilson(round(right[name] * 60), 60)
    assert len(set(right.values())) == 4, f"each way decides otherwise: {right}"
    assert (found.questions, found.chance, found.cut, found.perplexity) == (60, 0.25, 0, None)


def test_each_way_divides_by_its_own_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """By numbers so close that one more or less in a length would turn the verdict."""
    table = {
        "accuracy": ([-4.0, -3.9], ["a", "b"], [1, 1]),
        "by_character": (
            [-3.0, -5.9],
            ["€", "ab"],
            [9, 1],
        ),  # −3 against −2.95, −1.5 against −1.97 with one more
        "by_byte": ([-9.0, -2.9], ["€", "a"], [1, 9]),  # −3 against −2.9, −9 against −2.9 by characters
        "by_token": ([-3.0, -5.9], ["abcd", "a"], [1, 2]),
    }
    judge = model(WORDS)
    for name, (sums, endings, tokens) in table.items():
        for gold in (0, 1):
            question = Question(tuple(("two ", each) for each in endings), gold, "")
            scores = [Likelihood(each, count, False, 0) for each, count in zip(sums, tokens, strict=True)]
            monkeypatch.setattr(multiple_choice, "log_likelihoods", lambda *_, _s=scores, **__: _s)
            found = score_task(judge, WORDS, Task("t", "multiple_choice", (question,)))
            assert getattr(found, name).value == gold, name


def test_a_schema_scores_one_ending_behind_each_context(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    names = ["two", "the er", "an x", "zz", "€"]
    file = tmp_path / "task.jsonl"
    records = []
    for _ in range(40):
        one, other = (names[i] for i in draw.choice(5, size=2, replace=False))
        ending = f"is {names[draw.integers(5)]}."
        records.append(
            {"context_options": [one, other], "continuation": ending, "gold": int(draw.integers(2))}
        )
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    judge = model(WORDS)
    found = score_task(judge, WORDS, read_task(file))
    losses = [
        [
            sum(nats_of(judge, WORDS, each, f" {record['continuation']}")[0])
            for each in record["context_options"]
        ]
        for record in records
    ]
    expected = share([(record["gold"], each) for record, each in zip(records, losses, strict=True)])  # type: ignore[misc]
    assert found.accuracy.value == pytest.approx(expected)
    assert (found.by_character, found.by_byte, found.by_token) == (None, None, None)
    assert found.chance == 0.5


def test_a_cloze_is_right_where_greedy_decoding_writes_it(tmp_path: Path) -> None:
    """Every second word is what the model itself would write."""
    judge = model(WORDS)
    contexts = [f"two times {word} is" for word in ("the", "a", "x", "an er", "zz", "€", "ing", "two")]
    records = []
    for number, context in enumerate(contexts):
        ids = WORDS.encode(f"{context} ").tolist()
        for _ in range(3):
            ids.append(int(judge.eval()(torch.tensor([ids]))[0, -1, : WORDS.vocab_size - 1].argmax()))
        word = WORDS.decode(ids).removeprefix(f"{context} ")
        records.append((context, word if number % 2 else "the"))
    task = Task("cloze", "cloze", tuple(Question(((f"{c} ", w),), 0, "") for c, w in records))
    found = score_task(judge, WORDS, task)
    slow = [nats_of(judge, WORDS, context, f" {word}") for context, word in records]
    nats = [sum(each) for each, _ in slow]
    assert found.accuracy == wilson(sum(greedy for _, greedy in slow), len(slow))
    assert found.perplexity is not None
    mean, error = np.mean(nats), Z * np.std(nats, ddof=1) / math.sqrt(len(nats))
    assert found.perplexity.value == pytest.approx(math.exp(mean), rel=1e-4)
    assert found.perplexity.low == pytest.approx(math.exp(mean - error), rel=1e-4)
    assert found.perplexity.high == pytest.approx(math.exp(mean + error), rel=1e-4)
    assert (found.chance, found.by_token) == (None, None)


def test_greedy_words_count() -> None:
    """A model that always writes the same: right for it, wrong for all others."""
    judge = model(WORDS)
    space = WORDS.encode(" the").item()
    with torch.no_grad():
        judge.head = torch.nn.Linear(32, WORDS.vocab_size + 7)
        judge.head.weight.zero_()
        judge.head.bias.zero_()
        judge.head.bias[space] = 4.0
    words = ["the", "a", "the the", "x", "the x"]
    task = Task("cloze", "cloze", tuple(Question((("two ", word),), 0, "") for word in words))
    found = score_task(judge, WORDS, task)
    assert found.accuracy.value == pytest.approx(2 / 5)
    other = math.log(math.e**4 + WORDS.vocab_size + 6)
    nats = [other - 4, other, 2 * (other - 4), 2 * other, 2 * other - 4 + other]
    assert [len(WORDS.encode(f" {word}")) for word in words] == [1, 1, 2, 2, 3]
    assert found.perplexity is not None
    assert found.perplexity.value == pytest.approx(math.exp(np.mean(nats)), rel=1e-5)


def test_of_equals_the_first_counts_and_one_text_has_no_upper_end() -> None:
    judge = model(WORDS)
    candidates = (("two ", "the"), ("two ", "the"))
    with_nothing = Task("t", "multiple_choice", (Question((("two ", "the"), ("two ", "")), 0, ""),))
    assert score_task(judge, WORDS, with_nothing).by_character is not None
    task = Task("t", "multiple_choice", tuple(Question(candidates, gold, "") for gold in (0, 1, 0)))
    assert score_task(judge, WORDS, task).accuracy.value == pytest.approx(2 / 3)
    found = score_task(judge, WORDS, Task("t", "cloze", (Question((("two ", "a"),), 0, ""),)))
    assert found.perplexity is not None
    assert found.perplexity.low == 0
    assert found.perplexity.high > found.perplexity.value


def test_questions_that_were_cut_are_counted() -> None:
    judge = model(WORDS, 16)
    long, short = "two times " * 20, "two "
    questions = tuple(
        Question(((one, "the"), (one, "a")), 0, "") for one in (long, short, long, short, short)
    )
    assert score_task(judge, WORDS, Task("t", "multiple_choice", questions)).cut == 2


def test_a_stranger_is_named_with_its_line() -> None:
    tokenizer = CharTokenizer("abc ")
    task = Task("t", "multiple_choice", (Question((("a ", "b"), ("a ", "☃")), 0, "t.jsonl, line 7"),))
    with pytest.raises(DataError, match="unknown character '☃'") as caught:
        score_task(model(tokenizer), tokenizer, task)
    assert caught.value.where == "t.jsonl, line 7"
    assert caught.value.hint == "--unknown=skip"
    skipping = CharTokenizer("abc ", "skip")
    with pytest.raises(DataError, match="knows nothing") as caught:  # the space was known, and went to "☃"
        score_task(model(tokenizer), skipping, Task("t", "cloze", (Question((("a", "☃"),), 0, "line 9"),)))
    assert caught.value.where == "line 9"


@pytest.mark.parametrize("name", ["copa", "winograd_wsc", "hellaswag_small", "lambada_openai", "piqa"])
def test_real_questions(name: str, real_data: Path) -> None:
    """The beginning of each file, with bytes: also contexts that are longer than the model's."""
    tokenizer = ByteTokenizer()
    judge = model(tokenizer, 512)
    task = read_task(name, limit=6)
    found = score_task(judge, tokenizer, task, tokens_at_once=3000)
    right, cut = 0, 0
    for question in task.questions:
        slow = []
        for context, continuation in question.candidates:
            stripped = context.rstrip()
            nats, greedy = nats_of(judge, tokenizer, stripped, context[len(stripped) :] + continuation)
            slow.append((sum(nats), greedy))
        losses = [loss for loss, _ in slow]
        right += slow[0][1] if task.kind == "cloze" else losses.index(min(losses)) == question.gold
        cut += any(
            len((context + continuation).encode()) - 1 > 512 for context, continuation in question.candidates
        )
    assert found.accuracy.value == pytest.approx(right / len(task.questions))
    assert found.cut == cut
