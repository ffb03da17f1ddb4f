"""A model with GPT-2's own vocabulary, in and out: transformers judges its ids, its texts and its files."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2LMHeadModel

import primer
from gpt2s import Folder, same_logits
from primer.cli.main import main

TEXT = "Hello world, it's 1,234 naïve 🦊s!\n\n  The end."


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder as GPT-2 was released, but for the size of its layers."""
    if "PRIMER_DATA" not in os.environ:
        pytest.skip("PRIMER_DATA does not name a folder of real data")
    files = Path(os.environ["PRIMER_DATA"]) / "gpt2"
    sizes = {"vocab_size": 50257, "n_embd": 8, "n_head": 2, "n_layer": 1, "n_positions": 32}
    folder = Folder(tmp_path_factory.mktemp("hub") / "gpt2", **sizes)
    shutil.copy(files / "encoder.json", folder.path / "vocab.json")
    shutil.copy(files / "vocab.bpe", folder.path / "merges.txt")
    return folder


@pytest.fixture(scope="module")
def run(theirs: Folder, tmp_path_factory: pytest.TempPathFactory) -> primer.Run:
    """The run that the folder became."""
    return primer.import_model(theirs.path, runs_dir=tmp_path_factory.mktemp("runs"))


def test_it_reads_and_writes_as_transformers_does(theirs: Folder, run: primer.Run) -> None:
    other = AutoTokenizer.from_pretrained(theirs.path)
    ids = other(TEXT)["input_ids"]
    assert run.tokenizer.encode(TEXT).tolist() == ids
    same_logits(run.model, theirs.model, 32)
    prompt = torch.tensor([other("Hello world")["input_ids"]])
    written = theirs.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=9, do_sample=False, pad_token_id=50256
    )
    assert run.generate("Hello world", tokens=9, temperature=0.0) == other.decode(
        written[0, prompt.shape[1] :]
    )


def test_it_goes_back_with_the_same_ids_and_the_end_of_text(run: primer.Run, tmp_path: Path) -> None:
    out = run.export(tmp_path / "out")
    other = AutoTokenizer.from_pretrained(out)
    assert other(TEXT)["input_ids"] == run.tokenizer.encode(TEXT).tolist()
    assert (other.eos_token, other.eos_token_id) == ("<|endoftext|>", 50256)
    for name in ("config.json", "generation_config.json"):
        said = json.loads((out / name).read_text())
        assert (said["bos_token_id"], said["eos_token_id"]) == (50256, 50256)
    same_logits(run.model, GPT2LMHeadModel.from_pretrained(out).eval(), 32)
    again = primer.import_model(out, runs_dir=tmp_path / "runs")
    assert again.tokenizer.fingerprint == run.tokenizer.fingerprint


def test_training_goes_on_in_its_vocabulary(run: primer.Run, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT * 60, encoding="utf-8")
    flags = [
        "--train.steps=2", "--train.batch-size=2", "--train.short-context=0", "--train.device=cpu", "--train.minutes=0",
        "--train.sample-every=0", "--train.weight-average=0", "--schedule.warmup=0", "--optim.name=adamw",
        "--model.context-length=16",
    ]  # fmt: skip
    words = [
        "train",
        str(tmp_path / "text.txt"),
        f"--init-from={run.path}",
        f"--runs-dir={tmp_path / 'tuned'}",
    ]
    assert main([*words, *flags]) == 0
    (tuned,) = (primer.load(path) for path in (tmp_path / "tuned").iterdir())
    assert tuned.tokenizer.fingerprint == run.tokenizer.fingerprint
    assert tuned.config.model.vocab_size == 50257
    # its config, fed back, finds the same vocabulary
    assert main(["train", str(tuned.path / "config.toml"), f"--runs-dir={tmp_path / 'again'}"]) == 0
    (again,) = (primer.load(path) for path in (tmp_path / "again").iterdir())
    assert again.tokenizer.fingerprint == run.tokenizer.fingerprint


def test_a_padded_table_is_taken_as_one(
    theirs: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(theirs.path, tmp_path / "padded")
    Folder(tmp_path / "padded", vocab_size=50304, n_embd=8, n_head=2, n_layer=1)
    assert main(["import", str(tmp_path / "padded"), f"--runs-dir={tmp_path / 'runs'}"]) == 0
    assert "the last 47 rows of the embedding are no token's" in caplog.text


def test_a_vocabulary_of_another_model_is_refused(
    theirs: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(theirs.path, tmp_path / "other")
    Folder(tmp_path / "other", vocab_size=50258, n_embd=8, n_head=2, n_layer=1)
    assert main(["import", str(tmp_path / "other"), f"--runs-dir={tmp_path / 'runs'}"]) == 4
    assert "the model has 50258 tokens and its tokenizer 50257" in capsys.readouterr().err
