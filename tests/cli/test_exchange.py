"""A GPT-2 of transformers through every verb and back, as a user would type it."""

import hashlib
import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, GPT2LMHeadModel

import primer
from gpt2s import Folder, same_logits
from primer.cli.main import main
from primer.errors import UsageError
from primer.exchange import hub
from primer.recipes import exported
from primer.recipes import imported as module
from primer.recipes.directory import RunDirectory
from primer.tokens import ByteTokenizer
from primer.training import checkpoint

LETTERS = "\n .abcdefghijklmnopqrstuvwxyz"
TEXT = "the sun did not shine. it was too wet to play.\n"
QUICK = (
    "--train.steps=3", "--train.batch-size=2", "--train.micro-batch=2", "--train.short-context=0", "--train.threads=1",
    "--train.evaluate-every=3", "--train.sample-every=3", "--train.compile=off", "--train.device=cpu",
    "--train.minutes=0", "--train.weight-average=0", "--schedule.warmup=0", "--optim.name=adamw", "--optim.lr=1e-3",
    "--sample.tokens=5", "--sample.prompt=the",
)  # fmt: skip


def with_characters(path: Path, **changes: Any) -> Folder:
    """A tiny GPT-2 with a character tokenizer that the `tokenizers` library made."""
    folder = Folder(path, vocab_size=len(LETTERS), n_positions=16, **changes)
    words = Tokenizer(models.WordLevel({c: n for n, c in enumerate(LETTERS)}, unk_token=""))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    words.decoder = decoders.Fuse()
    words.save(str(path / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exchange")
    (folder / "poem.txt").write_text(TEXT * 20)
    return folder


@pytest.fixture(scope="module")
def theirs(place: Path) -> Folder:
    return with_characters(place / "My GPT-2")


@pytest.fixture(scope="module")
def imported(place: Path, theirs: Folder) -> Path:
    """The run that the folder became."""
    assert main(["import", str(theirs.path), f"--runs-dir={place / 'runs'}"]) == 0
    (run,) = (place / "runs").iterdir()
    return run


def said_by(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == code
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith(("error:", "where:", "try:"))]
    assert lines[0].startswith("error:")
    assert lines[-1].startswith("try:")
    assert "Traceback" not in err
    return "\n".join(lines)


def test_importing_prints_the_runs_path(
    place: Path, theirs: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(theirs.path), f"--runs-dir={place / 'other'}"]) == 0
    out, err = capsys.readouterr()
    (run,) = (place / "other").iterdir()
    assert out == f"{run}\n"
    assert err.startswith("My GPT-2: ")
    assert f"primer sample {run}\n" in err
    advice = err.splitlines()[2].partition(" my.txt ")[2].split()
    assert main(["train", str(place / "poem.txt"), *advice, "--print-config"]) == 0, "it can be copied"
    assert "n_positions" not in capsys.readouterr().out
    assert "-My-GPT-2-" in run.name


def test_the_run_computes_what_transformers_does(imported: Path, theirs: Folder) -> None:
    run = primer.load(imported)
    same_logits(run.model, theirs.model, 16)
    assert run.tokenizer.encode("abc").tolist() == [3, 4, 5]


def test_the_run_says_where_it_came_from(imported: Path, theirs: Folder) -> None:
    facts = json.loads((imported / "run.json").read_text())
    weights = (theirs.path / "model.safetensors").read_bytes()
    assert facts["imported"] == {
        "format": "huggingface",
        "folder": str(theirs.path),
        "sha256": {"model.safetensors": hashlib.sha256(weights).hexdigest()},
    }
    assert (facts["status"], facts["data"], facts["id"]) == ("imported", None, imported.name[-6:])
    pointers = [(imported / "checkpoints" / name).read_text() for name in ("latest", "best")]
    assert pointers == ["step_000000\n"] * 2
    config = tomllib.loads((imported / "config.toml").read_text())
    assert (config["recipe"], config["model"]["n_heads"]) == ("My GPT-2", 3)
    assert str(theirs.path) in config["about"]


def test_sampling_takes_the_likeliest_as_transformers_does(
    imported: Path, theirs: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    out = said_by(capsys, "sample", str(imported), "the sun", "--temperature=0", "--tokens=9")
    ids = [LETTERS.index(c) for c in "the sun"]
    with torch.no_grad():
        for _ in range(9):
            ids.append(int(theirs.model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert out == "".join(LETTERS[i] for i in ids) + "\n"


def test_scoring_another_text_is_transformers_loss(
    imported: Path, theirs: Folder, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "short.txt").write_text("it was too wet.")
    found = json.loads(said_by(capsys, "eval", str(imported), f"--on={place / 'short.txt'}", "--json"))
    ids = torch.tensor([[LETTERS.index(c) for c in "it was too wet."]])
    assert found["loss"] == pytest.approx(theirs.model(ids, labels=ids).loss.item(), rel=1e-6)


def test_what_an_imported_run_has_not_is_said(imported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, 4, "eval", str(imported))
    assert "this run was imported, and has no text of its own" in said
    assert f"primer eval {imported} --on=FILE" in said
    said = refused(capsys, 2, "resume", str(imported), "--train.steps=9")
    assert "there is no training to go on with" in said
    assert f"--init-from={imported}" in said


def test_it_is_listed_and_shown_as_imported(imported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = f"--runs-dir={imported.parent}"
    (found,) = json.loads(said_by(capsys, "runs", "list", "--json", folder))
    assert (found["status"], found["recipe"], found["steps"]) == ("imported", "My GPT-2", 0)
    listed = said_by(capsys, "runs", "list", folder)
    assert "imported" in listed
    assert "0/" not in listed
    shown = said_by(capsys, "runs", "show", "latest", folder)
    assert imported.name in shown
    assert "0/" not in shown


def test_training_starts_from_it_and_goes_back_to_transformers(
    imported: Path, theirs: Folder, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, out = place / "tuned", place / "exported"
    words = ["train", str(place / "poem.txt"), f"--init-from={imported}", f"--runs-dir={runs}", *QUICK]
    run = Path(said_by(capsys, *words).strip())
    before, after = (primer.load(each).evaluate(place / "poem.txt")["loss"] for each in (imported, run))
    assert after < before
    assert primer.load(run).config.model == primer.load(imported).config.model
    assert said_by(capsys, "export", str(run), "--to=huggingface", f"--out={out}") == f"{out}\n"

    again = GPT2LMHeadModel.from_pretrained(out).eval()
    same_logits(primer.load(run).model, again, 16)
    assert not torch.equal(again.transformer.wte.weight, theirs.model.transformer.wte.weight)
    words_there = AutoTokenizer.from_pretrained(out)
    assert words_there(TEXT)["input_ids"] == [LETTERS.index(c) for c in TEXT]

    third = Path(said_by(capsys, "import", str(out), f"--runs-dir={place / 'third'}").strip())
    assert primer.load(third).config.model == primer.load(run).config.model
    same_logits(primer.load(third).model, again, 16)
    # fed back, its config reads the same text with the same ids
    assert primer.load(run).config.data.tokenizer == "char"


def test_exporting_is_where_one_is_unless_told(
    imported: Path, theirs: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said_by(capsys, "export", str(imported)) == f"{imported.name}-huggingface\n"
    state = GPT2LMHeadModel.from_pretrained(tmp_path / f"{imported.name}-huggingface").state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.model.state_dict().items())
    said = refused(capsys, 2, "export", str(imported))
    assert "something is here already" in said
    assert [path.name for path in tmp_path.iterdir()] == [f"{imported.name}-huggingface"]


def test_a_run_that_is_no_gpt2_is_not_exported(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("--model.d-model=16", "--model.n-layers=1", "--model.n-heads=2", "--model.context-length=16")
    run = Path(
        said_by(capsys, "train", str(place / "poem.txt"), f"--runs-dir={tmp_path}", *QUICK, *small).strip()
    )
    said = refused(capsys, 2, "export", str(run), f"--out={tmp_path / 'out'}")
    named = ("positions=rotary", "embedding_norm=true", "qk_norm=true", "attention_gain=1.4")
    assert f"error:  GPT-2's format cannot hold {', '.join(f'model.{option}' for option in named)}\n" in said
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_the_runs_are_not_exported(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(imported, tmp_path / imported.name)
    file = run / "checkpoints" / "step_000000" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert "SHA-256" in refused(capsys, 4, "export", str(run), f"--out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def with_another_step(run: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Give a run a second checkpoint, of step 5, which is its latest one."""
    first = checkpoint.load(run / "checkpoints" / "step_000000")
    changed = {name: change(tensor) for name, tensor in first.model.items()}
    checkpoint.save(run / "checkpoints", 5, model=changed, optim={}, state={**first.state, "step": 5})


def test_which_checkpoint_is_exported(imported: Path, theirs: Folder, tmp_path: Path) -> None:
    run = shutil.copytree(imported, tmp_path / imported.name)
    with_another_step(run, lambda tensor: tensor * 2)
    embedding = theirs.model.transformer.wte.weight
    for which, factor in (("best", 1), ("latest", 2)):
        out = tmp_path / which
        assert main(["export", str(run), f"--checkpoint={which}", f"--out={out}"]) == 0
        found = GPT2LMHeadModel.from_pretrained(out).transformer.wte.weight
        assert torch.equal(found, embedding * factor), which


def test_weights_that_are_not_finite_are_not_exported(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(imported, tmp_path / imported.name)
    with_another_step(run, lambda tensor: tensor / 0)
    out = tmp_path / "out"
    said = refused(capsys, 4, "export", str(run), "--checkpoint=latest", f"--out={out}")
    assert "contains a number that is not finite" in said
    assert f"where:  {run / 'checkpoints' / 'step_000005'}" in said
    assert not out.exists()


def test_options_are_refused_before_weights_are_read(
    imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        exported, "read_checkpoint", lambda *_: pytest.fail("gigabytes were read for nothing")
    )
    run = primer.load(imported)
    run.config = replace(run.config, model=replace(run.config.model, head_bias=True))
    with pytest.raises(UsageError, match=r"model\.head_bias=true"):
        run.export(tmp_path / "out")
    with pytest.raises(UsageError, match="something is here already"):
        primer.load(imported).export(tmp_path)


def other_vocabulary(folder: Folder) -> None:
    file = folder.path / "tokenizer.json"
    words = json.loads(file.read_text())
    words["model"]["vocab"]["!"] = len(LETTERS)
    file.write_text(json.dumps(words))


def cut_short(folder: Folder) -> None:
    file = folder.path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def no_settings(folder: Folder) -> None:
    (folder.path / "config.json").unlink()


def broken_tokenizer(folder: Folder) -> None:
    (folder.path / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (other_vocabulary, "the model has 29 tokens and its tokenizer 30: they belong to two models"),
        (cut_short, "this is no safetensors file"),
        (no_settings, "no config.json is here"),
        (broken_tokenizer, "this is no JSON"),
    ],
)
def test_a_folder_that_is_refused_leaves_no_run(
    damage: Callable[[Folder], None], cause: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_characters(tmp_path / "theirs")
    damage(folder)
    said = refused(capsys, 4, "import", str(folder.path), f"--runs-dir={tmp_path / 'runs'}")
    assert cause in said
    assert not (tmp_path / "runs").exists()


def test_a_run_that_cannot_be_finished_leaves_nothing(
    theirs: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.checkpoint, "save", full)
    assert main(["import", str(theirs.path), f"--runs-dir={tmp_path / 'runs'}"]) == 3
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["import"], 2, "primer import needs a folder"),
        (["import", "no-such-folder"], 4, "there is no folder 'no-such-folder'"),
        (["import", ""], 2, "no model is named by an empty word"),
        (["import", "poem.txt"], 4, "this is a file, not the folder of a model"),
        (["import", "My GPT-2", "--revision=main"], 2, "a folder has no revisions"),
        (["import", "My GPT-2", "--tokenizer=nonsense"], 2, "unknown tokenizer 'nonsense'"),
        (["import", "My GPT-2", "--tokenizer=byte"], 4, "the model has 29 tokens and its tokenizer 256"),
        (["export"], 2, "primer export needs a run"),
        (["export", "latest", "--to=onnx"], 2, "to must be one of huggingface, got 'onnx'"),
        (["export", "nothing", "--runs-dir=runs"], 4, "there is no run called nothing"),
    ],
)
def test_mistakes(
    words: list[str],
    code: int,
    cause: str,
    imported: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(module, "fetch", lambda *_: pytest.fail("nobody asked for the network"))
    assert cause in refused(capsys, code, *words)


def test_a_folder_without_a_tokenizer_takes_one_by_name(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "bytes", vocab_size=256)
    run = primer.import_model(folder.path, tokenizer="byte", runs_dir=tmp_path / "runs")
    assert isinstance(run.tokenizer, ByteTokenizer)
    assert (run.config.data.tokenizer, run.config.data.source) == ("byte", "")
    out = run.export(tmp_path / "out")
    assert AutoTokenizer.from_pretrained(out)("é")["input_ids"] == [0xC3, 0xA9]
    again = primer.import_model(out, runs_dir=tmp_path / "runs")
    assert isinstance(again.tokenizer, ByteTokenizer)


def test_a_model_of_the_hub_is_a_run_of_one_commit(
    theirs: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def fetch(name: str, revision: str | None) -> hub.Snapshot:
        asked.append((name, revision))
        return hub.Snapshot(theirs.path, name, "f" * 40)

    monkeypatch.setattr(module, "fetch", fetch)
    monkeypatch.chdir(tmp_path)
    run = RunDirectory(Path(said_by(capsys, "import", "gpt2-medium", "--revision=main").strip()))
    assert asked == [("openai-community/gpt2-medium", "main")]
    facts = run.read_facts()["imported"]
    assert (facts["hub"], facts["commit"]) == ("openai-community/gpt2-medium", "f" * 40)
    assert run.read_config().recipe == "gpt2-medium"
    assert list(run.path.glob("checkpoints/step_000000/manifest.json"))


def test_a_folder_that_is_called_like_a_model_of_the_hub_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "fetch", lambda *_: pytest.fail("nobody asked for the network"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    assert "no config.json is here" in refused(capsys, 4, "import", "gpt2")
