"""The recipe `lecture` is the lecture's script: the same config, and the same losses step by step.

That is what lets a curve of the recipe stand for the script's. Dropout is compared by its places (in the
config), because the masks come from another order of draws; batches are drawn by our stream and given to
both.
"""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from primer.data.prepare import prepare
from primer.models.lecture import GPTLanguageModel, Lecture, to_gpt
from primer.recipes.build import build_model, build_stream, build_trainer
from primer.recipes.resolve import resolve
from primer.training.distributed import World

SCRIPT = Path(os.environ.get("PRIMER_REFERENCE", "")) / "lecture_script.py"
pytestmark = pytest.mark.skipif(
    not ("PRIMER_REFERENCE" in os.environ and SCRIPT.is_file()),
    reason="PRIMER_REFERENCE does not lead to lecture_script.py",
)


def test_the_recipes_model_is_the_scripts():
    with torch.device("meta"):
        lecture = GPTLanguageModel(Lecture(vocab_size=65))
    config, _ = to_gpt(lecture.state_dict())
    recipe = resolve("lecture", flags={"model.vocab_size": 65}).config
    assert recipe.model == config


def test_the_recipes_numbers_are_the_scripts():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    script = {
        node.targets[0].id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    recipe = resolve("lecture").config
    assert recipe.train.steps == script["max_iter"]
    assert recipe.train.batch_size == script["batch_size"]
    assert recipe.train.evaluate_every == script["eval_interval"]
    assert recipe.train.evaluate_batches == script["eval_iters"]
    assert recipe.optim.lr == script["learning_rate"]
    assert recipe.model.context_length == script["block_size"]
    assert recipe.model.pattern_dropout == recipe.model.feed_forward_dropout == script["dropout"]
    assert recipe.data.order == "random"


def test_training_gives_the_scripts_losses_and_weights(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(chr(97 + (i * i + i // 7) % 11) for i in range(2000)), encoding="utf-8")
    shards = prepare(text, out=tmp_path / "shards")
    config = resolve(
        "lecture",
        flags={
            "model.vocab_size": shards.tokenizer.vocab_size,
            "model.d_model": 24,
            "model.context_length": 16,
            "model.pattern_dropout": 0.0,
            "model.feed_forward_dropout": 0.0,
            "train.batch_size": 6,
            "train.micro_batch": 3,
        },
    ).config
    theirs = the_scripts_model(config.model.vocab_size).double()
    ours = build_model(config, shards, torch.device("cpu")).double()
    ours.load_state_dict(to_gpt(theirs.state_dict())[1])

    trainer = build_trainer(config, ours, shards, World())
    stream = build_stream(config, shards, World())
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=config.optim.lr)  # as the script makes it
    for _ in range(12):
        batch = stream.next()
        _, loss = theirs(batch.inputs.contiguous(), batch.targets.contiguous())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        assert trainer.step()["loss"] == pytest.approx(loss.item(), rel=2**-23)  # it is summed up in float32
    expected = to_gpt(theirs.state_dict())[1]
    for name, p in ours.named_parameters():
        assert (p - expected[name]).abs().max() < 1e-10, name


def the_scripts_model(vocab_size: int) -> nn.Module:
    """The script's class, unchanged, in a small world without dropout."""
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    world: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "device": "cpu", "__name__": "lecture_script"}
    world |= {"vocab_size": vocab_size, "block_size": 16, "n_embd": 24, "dropout": 0.0}
    exec(compile(tree, str(SCRIPT), "exec"), world)
    torch.manual_seed(3)
    return world["GPTLanguageModel"]()
