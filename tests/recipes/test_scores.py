"""A run's scores: documents with and without an end-of-text token, tasks, words that mean nothing."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import primer
from merging import MergingTokenizer
from primer.corpus.document import Document
from primer.errors import DataError, UsageError
from primer.evals.multiple_choice import score_task
from primer.evals.tasks import read_task
from primer.generation.text import stream
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.recipes.scores import check_target, read
from primer.recipes.text import opening
from primer.tokens.char import ByteTokenizer, CharTokenizer
from primer.tokens.tokenizer import END_OF_TEXT
from primer.training.precision import Precision
from setups import TINY

WORDS = MergingTokenizer()
END = WORDS.special_tokens[END_OF_TEXT]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> primer.Run:
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("".join(f"two times {n} is {2 * n}.\n" for n in range(200)), encoding="utf-8")
    flags = {
        **TINY,
        "train.steps": 4,
        "train.checkpoint_every": 4,
        "train.sample_every": 0,
        "sample.prompt": "",
    }
    return primer.train(text, flags=flags, runs_dir=text.parent / "runs")


@pytest.fixture
def with_end(trained: primer.Run) -> primer.Run:
    """The same run as if it had a tokenizer with an end-of-text token, and a padded vocabulary."""
    run = primer.load(trained)
    torch.manual_seed(0)
    config = GPTConfig(
        vocab_size=WORDS.vocab_size + 8, context_length=16, d_model=16, n_layers=1, n_heads=2, init_std=0.4
    )
    run.__dict__["tokenizer"], run.__dict__["model"] = WORDS, GPT(config).eval()
    return run


def documents() -> list[Document]:
    return [
        Document("two th", "a", 0),
        Document(f"e times{END_OF_TEXT}", "a", 1),
        Document(" the", "b", 0),
        Document("", "c", 0),
        Document("€", "d", 0),
    ]


def test_documents_begin_with_the_end_of_text_token_or_stand_apart() -> None:
    """As in training. A long document arrives in pieces, and is encoded as the one text that it is."""
    ids, skipped = read(WORDS, documents(), "error")
    texts = [f"two the times{END_OF_TEXT}", " the", "", "€"]
    expected = [token for text in texts for token in (END, *WORDS.encode(text, "text").tolist())]
    assert (ids.tolist(), skipped) == (expected, 0)
    assert expected.count(END) == 4
    ids, skipped = read(ByteTokenizer(), documents(), "error")
    assert bytes(ids.tolist()).decode() == "\n\n".join(texts)
    characters = CharTokenizer("".join(sorted(set("two th\n"))), "error")
    ids, skipped = read(characters, documents(), "skip")
    kept = "".join(c for c in "\n\n".join(texts) if c in characters.characters)
    assert (characters.decode(ids), skipped) == (kept, len("\n\n".join(texts)) - len(kept))
    assert read(WORDS, [], "error")[0].tolist() == []


def test_a_stranger_is_named_where_it_stands_in_its_document() -> None:
    characters = CharTokenizer("abc\n")
    pieces = [Document("abc", "first", 0), Document("ab", "second", 0), Document("cxa", "second", 1)]
    with pytest.raises(DataError, match=r"'x' .* at position 3") as caught:
        read(characters, pieces, "error")
    assert (caught.value.where, caught.value.hint) == ("second", "--unknown=skip")
    with pytest.raises(DataError, match="at position 0"):
        read(CharTokenizer("abc"), pieces, "error")  # the blank line between them


@torch.no_grad()
def test_a_text_is_scored_with_its_ends_over_all_its_bytes(with_end: primer.Run, tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    texts = ["two times the", "a €", f"the {END_OF_TEXT} and the two"]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    ids = np.concatenate([[END, *WORDS.encode(text, "text")] for text in texts])
    nats = 0.0
    for target in range(1, len(ids)):
        start = (target - 1) // 16 * 16
        row = with_end.model(torch.from_numpy(ids[start:target])[None])[0, -1].double()
        nats -= float(row.log_softmax(-1)[ids[target]])  # over the padding, too
    found = with_end.evaluate(file)
    assert found["tokens"] == len(ids) - 1
    assert found["loss"] == pytest.approx(nats / (len(ids) - 1), rel=1e-6)
    size = sum(len(text.encode()) for text in texts)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-6)


def test_a_sample_without_a_prompt_begins_where_texts_begin(
    with_end: primer.Run, trained: primer.Run
) -> None:
    assert trained.config.sample.prompt == ""
    wanted: dict[str, Any] = {"tokens": 9, "seed": 3, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    expected = "".join(stream(with_end.model, WORDS, "", max_tokens=9, seed=3))
    assert with_end.generate(**wanted) == with_end.generate("", **wanted) == expected
    assert trained.generate(**wanted) == trained.generate("\n", **wanted)
    assert opening(WORDS, "") == ""
    assert opening(WORDS, "two") == "two"
    assert opening(WORDS, END_OF_TEXT) == "", "nobody's config spells special tokens"
    assert opening(ByteTokenizer(), "") == "\n"
    assert opening(CharTokenizer("ab"), "x") == "a"


CHOICES = [
    {"query": f"two times {n} is", "choices": [f"{2 * n}.", f"{n}.", "two"], "gold": 0} for n in range(12)
]


def test_a_task_is_scored_as_by_the_function_in_the_runs_precision(
    trained: primer.Run, tmp_path: Path
) -> None:
    file = tmp_path / "doubles.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in CHOICES))
    expected = score_task(trained.model, trained.tokenizer, read_task(file))
    assert trained.evaluate_task(file) == trained.evaluate_task(str(file)) == expected
    assert trained.evaluate_task(read_task(file, limit=3)) == trained.evaluate_task(file, limit=3)
    assert trained.evaluate_task(file, limit=3).questions == 3
    assert trained.evaluate_task(file, shots=1, seed=2).shots == 1
    calls: list[tuple[int, int]] = []
    trained.evaluate_task(file, progress=lambda *each: calls.append(each))
    assert calls[-1] == (36, 36)


def test_the_runs_precision_is_that_of_its_scores(
    trained: primer.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cloze.jsonl"
    clozes = [{"context": each["query"], "continuation": "two"} for each in CHOICES]
    file.write_text("".join(json.dumps(each) + "\n" for each in clozes))
    plain = trained.evaluate_task(file).perplexity
    assert plain is not None
    monkeypatch.setattr(trained, "precision", lambda: Precision(torch.device("cpu"), torch.bfloat16))
    narrow = trained.evaluate_task(file).perplexity
    assert narrow is not None
    assert narrow.value != plain.value
    assert narrow.value == pytest.approx(plain.value, rel=0.1)


def test_strangers_in_a_task(trained: primer.Run, tmp_path: Path) -> None:
    file = tmp_path / "strange.jsonl"
    file.write_text(json.dumps({"query": "two ☃", "choices": ["is", "times"], "gold": 0}) + "\n")
    with pytest.raises(DataError, match="'☃'") as caught:
        trained.evaluate_task(file)
    assert (caught.value.where, caught.value.hint) == (f"{file}, line 1", "--unknown=skip")
    assert trained.evaluate_task(file, unknown="skip").questions == 1


def test_words_that_name_nothing(trained: primer.Run, tmp_path: Path) -> None:
    for word, near in (
        ("hellaswga", "hellaswag"),
        ("shakespear", "shakespeare"),
        ("lambada", "lambada_openai"),
    ):
        for ask in (trained.evaluate, trained.evaluate_task):
            with pytest.raises(DataError, match="no file or folder") as caught:
                ask(word)
            assert caught.value.hint == f"did you mean {near}?"
    with pytest.raises(DataError) as caught:
        trained.evaluate(tmp_path / "qqqqqq")
    assert "arc_easy" in str(caught.value.hint)
    with pytest.raises(UsageError, match="hellaswag is a task") as caught_usage:
        trained.evaluate("hellaswag")
    assert "evaluate_task" in str(caught_usage.value.hint)
    with pytest.raises(DataError, match="empty word"):
        trained.evaluate("")
    check_target(tmp_path)
