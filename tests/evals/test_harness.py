"""Answers to lm-evaluation-harness: by its own descriptions, and (where it is installed) in its own hands."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from merging import MergingTokenizer
from primer.errors import SurroundingsError, UsageError
from primer.evals.harness import Answers, language_model, run_harness, understood
from primer.evals.multiple_choice import score_task
from primer.evals.tasks import read_task
from primer.generation.sampling import Sampling
from primer.generation.text import stream
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.tokens.tokenizer import END_OF_TEXT
from primer.training.precision import Precision

WORDS = MergingTokenizer()
END = WORDS.special_tokens[END_OF_TEXT]
CONTEXT = 8


def answers(context_length: int = CONTEXT) -> Answers:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"context_length": context_length, "d_model": 16, "n_layers": 1, "n_heads": 2}
    model = GPT(GPTConfig(vocab_size=WORDS.vocab_size, init_std=0.5, **sizes))
    return Answers(model, WORDS, Precision(torch.device("cpu")))


@dataclasses.dataclass
class Instance:
    """What the harness hands over, as far as we look at it."""

    args: tuple[Any, ...]


@torch.no_grad()
def log_p(model: GPT, seen: list[int], asked: list[int]) -> float:
    """Of the tokens `asked`, which are the last of those that are predicted from `seen`."""
    rows = model.eval()(torch.tensor([seen])).log_softmax(-1)[0, -len(asked) :]
    return float(sum(row[token] for row, token in zip(rows, asked, strict=True)))


def test_a_continuation_behind_a_context_or_behind_nothing() -> None:
    judge = answers()
    the, two = WORDS.encode(" the").item(), WORDS.encode("two").item()
    found = judge.loglikelihood([Instance(("two", " the")), Instance(("", "two")), Instance(("two ", "the"))])
    assert found[0][0] == pytest.approx(log_p(judge.model, [two], [the]), rel=1e-6)
    assert found[1][0] == pytest.approx(log_p(judge.model, [END], [two]), rel=1e-6)
    assert found[2] == found[0]
    best, first = (int(judge.model(torch.tensor([[token]]))[0, -1].argmax()) for token in (two, END))
    assert [greedy for _, greedy in found] == [the == best, two == first, the == best]


@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 40])
def test_a_rolling_text_is_scored_in_the_harness_windows(length: int) -> None:
    """Its own example, in numbers: [end, 0 … 6] → [0 … 7], [7 … 14] → [8 … 15], and the last window is full."""
    judge = answers()
    text = "xyzw" * 10
    ids = WORDS.encode(text[:length]).tolist()
    assert len(ids) == length
    expected = log_p(judge.model, [END, *ids[: CONTEXT - 1]][:length], ids[:CONTEXT])
    done = CONTEXT
    while done < length:
        stop = min(done + CONTEXT, length)
        expected += log_p(judge.model, ids[stop - CONTEXT - 1 : stop - 1], ids[done:stop])
        done = stop
    found = judge.loglikelihood_rolling([Instance(("xy",)), Instance((text[:length],)), Instance(("",))])
    assert found[0] == pytest.approx(log_p(judge.model, [END, ids[0]], WORDS.encode("xy").tolist()), rel=1e-5)
    assert found[1] == pytest.approx(expected, rel=1e-5)
    assert found[2] == 0


def test_what_is_written_is_greedy_and_ends_where_the_task_says() -> None:
    judge = answers(64)
    free = "".join(stream(judge.model, WORDS, "two times", max_tokens=30, sampling=Sampling(temperature=0.0)))
    stop = free[5:8]
    (all_of_it, until, empty, spelt) = judge.generate_until(
        [
            Instance(("two times", {"max_gen_toks": 30})),
            Instance(
                (
                    "two times",
                    {"max_gen_toks": 30, "until": ["", stop], "do_sample": False, "temperature": 0.9},
                )
            ),
            Instance(("", {"max_gen_toks": 5, "until": None})),
            Instance((f"two{END_OF_TEXT}", {"max_gen_toks": 5})),
        ]
    )
    assert all_of_it == free
    assert until == free[: free.index(stop)]
    greedy = Sampling(temperature=0.0)
    assert empty == "".join(stream(judge.model, WORDS, "", max_tokens=5, sampling=greedy))
    assert END_OF_TEXT not in spelt


def test_wishes_are_understood_or_refused() -> None:
    assert understood({}) == (Sampling(temperature=0.0), 256, [])
    assert understood({"until": "\n", "max_new_tokens": 7}) == (Sampling(temperature=0.0), 7, ["\n"])
    assert understood({"max_tokens": 9, "max_gen_toks": 3})[1] == 3
    drawn = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "until": ["a", "b"]}
    before = dict(drawn)
    assert understood(drawn) == (Sampling(temperature=0.7, top_k=5, top_p=0.9), 256, ["a", "b"])
    assert drawn == before
    assert understood({"do_sample": True})[0].temperature == 1.0
    assert understood({"temperature": 0.5})[0].temperature == 0.5
    with pytest.raises(UsageError, match="num_beams"):
        understood({"num_beams": 4})


def test_without_the_harness_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    for call in (lambda: run_harness(answers, ["copa"]), lambda: language_model(answers())):
        with pytest.raises(SurroundingsError, match="lm_eval is not installed") as caught:
            call()
        assert caught.value.hint == 'python -m pip install "gpt-primer[eval]"'


# The harness' own imports warn of this and that, which is not ours to change.
@pytest.mark.filterwarnings("ignore")
def test_in_the_hands_of_the_real_harness(tmp_path: Path) -> None:
    """Its metrics on our answers are our own scores, and a cloze's perplexity is."""
    pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    words = ["the", "a", "two is", "ing", "an x", "€", "zz"]
    choices = [
        {
            "query": f"two {words[n % 7]}",
            "choices": [words[(n * k) % 7] * k for k in (1, 2, 3)],
            "gold": n % 3,
        }
        for n in range(30)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in choices))
    clozes = [{"context": f"two {words[n % 7]}", "continuation": words[(3 * n) % 7]} for n in range(12)]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(each) + "\n" for each in clozes))

    def config(name: str, **options: Any) -> dict[str, Any]:
        data = {
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(tmp_path / f"{name}.jsonl")}},
        }
        metrics = options.pop("metrics")
        metric_list = [
            {"metric": each, "aggregation": how, "higher_is_better": True} for each, how in metrics.items()
        ]
        return {"task": name, "test_split": "test", "metric_list": metric_list, **data, **options}

    mean = dict.fromkeys(("acc", "acc_norm", "acc_bytes"), "mean")
    asked = {"doc_to_text": "query", "doc_to_target": "gold", "doc_to_choice": "choices"}
    a = config("a", output_type="multiple_choice", metrics=mean, **asked)
    asked = {"doc_to_text": "{{context}}", "doc_to_target": "{{' ' + continuation}}"}
    b = config("b", output_type="loglikelihood", metrics={"acc": "mean", "perplexity": "perplexity"}, **asked)
    judge = answers(64)
    found = run_harness(lambda: judge, [a, b])
    ours = score_task(judge.model, WORDS, read_task(tmp_path / "a.jsonl"))
    assert ours.by_character is not None
    assert ours.by_byte is not None
    assert found["a"]["acc,none"] == pytest.approx(ours.accuracy.value)
    assert found["a"]["acc_norm,none"] == pytest.approx(ours.by_character.value)
    assert found["a"]["acc_bytes,none"] == pytest.approx(ours.by_byte.value)
    ours = score_task(judge.model, WORDS, read_task(tmp_path / "b.jsonl"))
    assert ours.perplexity is not None
    assert found["b"]["acc,none"] == pytest.approx(ours.accuracy.value)
    assert found["b"]["perplexity,none"] == pytest.approx(ours.perplexity.value, rel=1e-6)
    with pytest.raises(UsageError, match="knows no task hellaswagg"):
        run_harness(lambda: judge, ["hellaswagg"])
