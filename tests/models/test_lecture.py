"""The script itself judges: its classes are taken out by AST, because running it would train."""

from __future__ import annotations

import ast
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from primer.errors import DataError
from primer.models.gpt import GPT
from primer.models.lecture import (
    Bigram,
    Blocks,
    GPTLanguageModel,
    Head,
    LanguageModel,
    Lecture,
    MultiHead,
    MultiHeadAttention,
    SingleHead,
    read_weights,
    to_gpt,
)

SCRIPT = Path(os.environ.get("PRIMER_REFERENCE", "")) / "lecture_script.py"
needs_script = pytest.mark.skipif(
    not ("PRIMER_REFERENCE" in os.environ and SCRIPT.is_file()),
    reason="PRIMER_REFERENCE does not lead to lecture_script.py",
)
SMALL = Lecture(vocab_size=13, block_size=16, n_embd=24)
RUNGS = [Bigram, SingleHead, MultiHead, Blocks, GPTLanguageModel]


def the_scripts(sizes: Lecture) -> Any:
    """The script's classes, unchanged, in a world of these sizes."""
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    world: dict[str, Any] = {
        "torch": torch,
        "nn": nn,
        "F": F,
        "device": "cpu",
        "vocab_size": sizes.vocab_size,
        "block_size": sizes.block_size,
        "n_embd": sizes.n_embd,
        "dropout": sizes.dropout,
        "__name__": "lecture_script",
    }
    exec(compile(tree, str(SCRIPT), "exec"), world)
    return SimpleNamespace(**world)


def both(sizes: Lecture = SMALL) -> tuple[nn.Module, GPTLanguageModel]:
    """The script's model and ours, with the script's weights, in float64."""
    torch.manual_seed(0)
    theirs = the_scripts(sizes).GPTLanguageModel().double()
    ours = GPTLanguageModel(sizes).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def text(sizes: Lecture, rows: int = 3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(sizes.vocab_size, (rows, sizes.block_size + 1), generator=generator)


@needs_script
@pytest.mark.parametrize("training", [False, True])
def test_logits_loss_and_gradients_are_the_scripts(training):
    """With dropout on, too: the same masks are drawn in the same order."""
    theirs, ours = both()
    tokens = text(SMALL)
    results = []
    for model in (theirs, ours):
        model.train(training)
        torch.manual_seed(5)
        logits, loss = model(tokens[:, :-1], tokens[:, 1:].contiguous())  # the script views them
        loss.backward()
        results.append((logits.reshape(-1, SMALL.vocab_size), loss))
    for a, b in zip(*results, strict=True):
        assert (a - b).abs().max() < 1e-10
    gradients = dict(theirs.named_parameters())
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, p in ours.named_parameters():
        assert (p.grad - gradients[name].grad).abs().max() < 1e-10, name


@needs_script
def test_the_same_seed_gives_the_same_first_weights():
    torch.manual_seed(1337)
    theirs = the_scripts(SMALL).GPTLanguageModel().state_dict()
    torch.manual_seed(1337)
    ours = GPTLanguageModel(SMALL).state_dict()
    assert list(theirs) == list(ours)
    assert all(torch.equal(theirs[name], ours[name]) for name in ours)


@needs_script
@pytest.mark.parametrize("dropout_on", [True, False])
def test_generate_writes_what_the_script_writes(dropout_on):
    theirs, ours = both()
    prompt = text(SMALL)[:, :5]
    theirs.train(dropout_on)
    torch.manual_seed(9)
    expected = theirs.generate(prompt, 40)
    torch.manual_seed(9)
    ours.eval()
    assert torch.equal(ours.generate(prompt, 40, dropout_on=dropout_on), expected)
    assert not ours.training


@needs_script
def test_the_scripts_sizes_are_ours():
    """The real sizes, as the script's own lines declare them: 6 and 6 declared, 4 and 4 built."""
    values = {
        node.targets[0].id: node.value.value
        for node in ast.parse(SCRIPT.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    sizes = Lecture(vocab_size=65)
    declared = {name: values[name] for name in ("block_size", "n_embd", "n_head", "n_layer", "dropout")}
    assert declared == {name: getattr(sizes, name) for name in declared}
    with torch.device("meta"):
        ours = GPTLanguageModel(sizes)
        theirs = the_scripts(sizes).GPTLanguageModel
    assert {name: p.shape for name, p in ours.state_dict().items()} == {
        name: p.shape for name, p in theirs().state_dict().items()
    }
    built = Lecture(vocab_size=65, declared_sizes=True)
    assert (sizes.heads, sizes.blocks, built.heads, built.blocks) == (4, 4, 6, 6)


@needs_script
def test_to_gpt_gives_the_scripts_logits():
    theirs, ours = both()
    tokens = text(SMALL)[:, :-1]
    config, state = to_gpt(theirs.state_dict())
    gpt = GPT(config).double()
    gpt.load_state_dict(state)
    expected, _ = theirs.eval()(tokens)
    assert (gpt.eval()(tokens) - expected).abs().max() < 1e-10
    assert (ours.eval()(tokens)[0] - expected).abs().max() < 1e-10


@pytest.mark.parametrize("score_scale", ["n_embd", "head_size"])
@pytest.mark.parametrize("output_projection", [False, True])
@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module."])
def test_to_gpt_knows_every_departure(score_scale, output_projection, prefix):
    torch.manual_seed(2)
    sizes = Lecture(13, 16, 24, 3, 2, 0.1, score_scale, output_projection, declared_sizes=True)
    lecture = GPTLanguageModel(sizes).double().eval()
    tokens = text(sizes)
    saved = {prefix + name: tensor for name, tensor in lecture.state_dict().items()}
    config, state = to_gpt(saved, score_scale=score_scale, dropout=0.1)
    gpt = GPT(config).double().eval()
    gpt.load_state_dict(state)
    logits, loss = lecture(tokens[:, :-1], tokens[:, 1:])
    assert (gpt(tokens[:, :-1]) - logits).abs().max() < 1e-10
    assert (config.n_layers, config.n_heads, config.pattern_dropout) == (2, 3, 0.1)
    loss.backward()
    F.cross_entropy(gpt(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()).backward()
    _, theirs = to_gpt(
        {name: p.grad for name, p in lecture.named_parameters()}
    )  # linear: gradients go with it
    for name, p in gpt.named_parameters():
        assert (p.grad - theirs[name]).abs().max() < 1e-10, name


@pytest.mark.parametrize(
    "missing", ["emb_table.weight", "block.0.sa_head.heads.1.key.weight", "lm_head.bias"]
)
def test_to_gpt_names_what_is_missing(missing):
    state = GPTLanguageModel(SMALL).state_dict()
    del state[missing]
    with pytest.raises(DataError, match="no weights of the lecture's model"):
        to_gpt(state)


def test_to_gpt_names_what_is_left_over():
    state = GPTLanguageModel(SMALL).state_dict()
    with pytest.raises(DataError, match=r"surprise\.weight has no place"):
        to_gpt({**state, "surprise.weight": torch.zeros(1)})


def test_read_weights_opens_a_state_dict(tmp_path):
    model = GPTLanguageModel(SMALL)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    read = read_weights(tmp_path / "model.pt")
    assert all(torch.equal(read[name], tensor) for name, tensor in model.state_dict().items())


class Payload:
    """What a pickle can do to whoever opens it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (os.environ["PRIMER_TEST_PAYLOAD"],))


def test_read_weights_executes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIMER_TEST_PAYLOAD", str(tmp_path / "executed"))
    (tmp_path / "noise.pt").write_bytes(b"\x00" * 100)
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save(Payload(), tmp_path / "payload.pt")
    torch.save(GPTLanguageModel(SMALL), tmp_path / "module.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    for name in ("noise", "empty", "payload", "module", "list", "absent"):
        with pytest.raises(DataError):
            read_weights(tmp_path / f"{name}.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("rung", RUNGS)
def test_no_rung_sees_the_future(rung):
    torch.manual_seed(3)
    model = rung(SMALL).eval()
    tokens = text(SMALL, rows=1)[:, :-1]
    before = model.logits(tokens)
    changed = tokens.clone()
    changed[0, 9] = (changed[0, 9] + 1) % SMALL.vocab_size
    after = model.logits(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    seen = (before != after).any(dim=-1)[0]
    assert seen[9]
    assert seen[10:].any() == (rung is not Bigram)  # and all but the first see the past


def test_a_head_by_hand():
    """Two loops over positions: score, weigh, add up."""
    torch.manual_seed(4)
    head = Head(n_embd=6, head_size=3, block_size=5, score_scale="head_size").double()
    x = torch.randn(5, 6, dtype=torch.float64)
    query_of, key_of, value_of = (part.requires_grad_(False) for part in (head.query, head.key, head.value))
    for t in range(5):
        weights = [math.exp(query_of(x[t]) @ key_of(x[s]) / math.sqrt(3)) for s in range(t + 1)]
        expected = sum(w * value_of(x[s]) for s, w in enumerate(weights)) / sum(weights)
        torch.testing.assert_close(head(x[None])[0, t], expected, rtol=0, atol=1e-12)


def test_the_scripts_scale_flattens_a_head():
    """Divided by √C and not by √D, the logarithms of the weights vary √(C/D) times less."""
    torch.manual_seed(5)
    heads = {scale: Head(64, 4, 8, score_scale=scale) for scale in ("n_embd", "head_size")}
    heads["n_embd"].load_state_dict(heads["head_size"].state_dict())
    assert heads["head_size"].scale / heads["n_embd"].scale == pytest.approx(4)
    x = torch.randn(1, 8, 64)
    assert not torch.allclose(heads["n_embd"](x), heads["head_size"](x))


def test_without_projection_a_head_fills_only_its_own_slice():
    torch.manual_seed(6)
    x = torch.randn(1, 7, 24)
    for projected in (False, True):
        attention = MultiHeadAttention(Lecture(13, 16, 24, output_projection=projected)).eval()
        before = attention(x)
        with torch.no_grad():
            attention.heads[1].value.weight.add_(1.0)
        changed = (before != attention(x)).any(dim=1)[0]
        own_slice = torch.arange(24) // 6 == 1
        assert torch.equal(changed, own_slice) != projected


def test_the_bigram_learns_the_table_of_pairs():
    """At its best its loss is the conditional entropy of the text, and its rows are the frequencies."""
    pairs = torch.tensor([[0, 1], [0, 2], [0, 2], [1, 0], [2, 0], [2, 2], [2, 2], [2, 2]])
    torch.manual_seed(7)
    model = Bigram(Lecture(vocab_size=3))
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        _, loss = model(pairs[:, :1], pairs[:, 1:])
        loss.backward()
        return loss

    optimizer.step(closure)
    frequencies = torch.tensor([[0, 1 / 3, 2 / 3], [1, 0, 0], [1 / 4, 0, 3 / 4]])
    torch.testing.assert_close(model.table.weight.softmax(-1), frequencies, rtol=0, atol=1e-3)


@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_starts_near_a_random_guess_and_learns(rung):
    """The same 40 steps for all: the loss falls below what it was, by more than noise."""
    torch.manual_seed(8)
    model: LanguageModel = rung(Lecture(vocab_size=13, block_size=16, n_embd=24, dropout=0.0))
    tokens = (
        torch.arange(17).repeat(4, 1) * torch.tensor([[1], [2], [3], [5]]) % 13
    )  # each row counts in steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        _, loss = model(tokens[:, :-1], tokens[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(13), abs=1.0)
    assert losses[-1] < losses[0] - 0.3
    assert model.generate(tokens[:, :1], 20).shape == (4, 21)
