"""A score against brute force: token after token, with nothing but a softmax."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import primer
from primer.data.batches import evaluation_windows
from primer.errors import UsageError
from primer.evals.perplexity import evaluating, score
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.recipes.text import open_data
from primer.training.distributed import World

IDS = np.concatenate([[0], np.random.default_rng(0).integers(11, size=98), [10]])
BYTES = torch.arange(1, 12)


def model() -> GPT:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "vocab_size": 11,
        "d_model": 16,
        "n_layers": 1,
        "n_heads": 2,
        "context_length": 8,
    }
    return GPT(GPTConfig(**options, pattern_dropout=0.5, feed_forward_dropout=0.5, init_std=0.5))


@torch.no_grad()
def nats_of(model: GPT, ids: np.ndarray, context: int) -> list[float]:
    """−log p of every token but the first, each seen from the start of its window."""
    found = []
    for target in range(1, len(ids)):
        start = (target - 1) // context * context
        logits = model(torch.from_numpy(ids[start:target])[None])[0, -1].double()
        p = math.exp(logits[ids[target]]) / sum(math.exp(logit) for logit in logits)
        found.append(-math.log(p))
    return found


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_the_score_is_that_of_every_token_once(batch_size: int) -> None:
    judged = model()
    windows = evaluation_windows(IDS, batch_size=batch_size, context_length=8)
    found = score(judged, windows, BYTES)
    nats = nats_of(judged.eval(), IDS, context=8)
    assert found.tokens == 99
    assert found.loss == pytest.approx(sum(nats) / 99, rel=1e-6)
    assert found.perplexity == pytest.approx(math.exp(sum(nats) / 99), rel=1e-6)
    assert found.bits_per_byte == pytest.approx(
        sum(nats) / math.log(2) / float((IDS[1:] + 1).sum()), rel=1e-6
    )


def test_processes_add_up_to_one() -> None:
    """Each scores its part; `total` sums, as all_reduce does."""
    judged = model()
    windows = list(evaluation_windows(IDS, batch_size=2, context_length=8))
    whole = score(judged, windows, BYTES)
    sums: list[torch.Tensor] = []

    def remember(part: torch.Tensor) -> torch.Tensor:
        sums.append(part.clone())
        return torch.stack(sums).sum(0)

    score(judged, windows[0::2], BYTES, total=remember)
    together = score(judged, windows[1::2], BYTES, total=remember)
    assert together.tokens == whole.tokens
    assert together.loss == pytest.approx(whole.loss, rel=1e-12)
    assert together.bits_per_byte == pytest.approx(whole.bits_per_byte, rel=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_comes_back_and_no_gradient_is_kept(training: bool) -> None:
    judged = model().train(training)

    def fail() -> None:
        with evaluating(judged):
            assert not judged.training
            assert not judged(torch.zeros(1, 3, dtype=torch.long)).requires_grad
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert judged.training == training
    assert judged(torch.zeros(1, 3, dtype=torch.long)).requires_grad


def test_a_hopeless_model_has_a_finite_perplexity() -> None:
    judged = model()
    with torch.no_grad():
        judged.head.weight.mul_(1e5)
    found = score(judged, evaluation_windows(IDS, batch_size=5, context_length=8), BYTES)
    assert found.loss > 700
    assert math.isfinite(found.perplexity)


def test_ids_beyond_the_tokenizer_are_named_before_the_model_reads_them() -> None:
    for place, said in (
        (0, "from token 0 on has id 11 at position 0,"),
        (98, "from token 96 on has id 11 at position 2,"),
    ):
        ids = IDS.copy()
        ids[place] = 11
        with pytest.raises(UsageError, match=f"the text {said}"):
            score(model(), evaluation_windows(ids, batch_size=4, context_length=8), BYTES)


def test_a_special_token_has_nats_and_no_bytes() -> None:
    judged, silent = model(), BYTES.clone()
    silent[3] = 0
    windows = list(evaluation_windows(IDS, batch_size=5, context_length=8))
    with_bytes, without = score(judged, windows, BYTES), score(judged, windows, silent)
    assert without.loss == with_bytes.loss
    targets = IDS[1:]
    assert (targets == 3).any()
    assert without.bits_per_byte / with_bytes.bits_per_byte == pytest.approx(
        (targets + 1).sum() / (targets + 1)[targets != 3].sum(), rel=1e-6
    )


def test_a_run_is_validated_on_its_whole_validation_part(tmp_path: Path) -> None:
    """The stories: validation on a few random batches, or on what one process holds."""
    flags: dict[str, Any] = {
        "model.d_model": 16, "model.n_layers": 1, "model.n_heads": 2, "model.context_length": 16,
        "model.ngram.orders": (), "train.steps": 4, "train.batch_size": 4, "train.short_context": 0,
        "train.sample_every": 0, "train.device": "cpu", "train.threads": 1, "schedule.warmup": 1,
    }  # fmt: skip
    text_file = tmp_path / "text.txt"
    text_file.write_text("".join(f"{n} squared is {n * n}.\n" for n in range(70)), encoding="utf-8")
    run = primer.train(text_file, flags=flags, runs_dir=tmp_path)
    ids = np.asarray(open_data(run.config, run.directory, World()).tokens("validation")[:]).astype(np.int64)
    nats = nats_of(run.model, ids, context=16)
    (row,) = [row for row in run.metrics() if "val_loss" in row]
    assert row["val_loss"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    text = run.tokenizer.decode(ids[1:])
    assert row["val_bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / len(text.encode()), rel=1e-5)
