"""`primer prepare`, and training on what it made."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from primer.cli.main import main
from primer.data.prepare import prepare
from primer.data.shards import ShardDirectory
from primer.recipes.resolve import resolve
from primer.tokens import BPETokenizer
from setups import TINY

WORDS = [f"--{key.replace('_', '-')}={value}" for key, value in TINY.items()]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("".join(f"{n} plus {n} is {2 * n}.\n" for n in range(400)))
    texts = [f"Number {n} of the records, which says {n * n}." for n in range(200)]
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


@pytest.fixture
def vocabulary(tmp_path: Path, corpus: Path) -> Path:
    tokenizer = BPETokenizer.train([(corpus / "a.txt").read_text()], vocab_size=300)
    file = tmp_path / "vocabulary.json"
    file.write_text(tokenizer.to_json())
    return file


def test_several_texts_become_one_folder_that_can_be_trained_on(
    corpus: Path, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    texts = [str(corpus / "a.txt"), str(corpus / "b.jsonl")]
    words = ["prepare", *texts, f"--out={out}", f"--tokenizer={vocabulary}", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    shards = ShardDirectory.open(out)
    begin = shards.tokenizer.special_tokens["<|endoftext|>"]
    everything = np.concatenate([shards.tokens("train")[:], shards.tokens("validation")[:]])
    assert len(everything) == found["train_tokens"] + found["validation_tokens"]
    assert (everything == begin).sum() in (201, 202)  # a text, 200 records, and perhaps the one that was cut
    whole = "".join(Path(texts[0]).read_text())
    assert found["bytes"] == len(whole) + sum(
        len(json.loads(line)["text"]) for line in Path(texts[1]).read_text().splitlines()
    )
    assert found["made"]
    assert main(words) == 0  # it is there: nothing is done again
    again = json.loads(capsys.readouterr().out)
    assert again["fingerprint"] == found["fingerprint"]
    assert not again["made"]
    assert main([*words, "--no-json"]) == 0
    assert "they were there already" in capsys.readouterr().out

    assert main(["train", str(out), f"--runs-dir={tmp_path / 'runs'}", *WORDS]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "run.json").read_text())["data"]["fingerprint"] == found["fingerprint"]
    assert main(["resume", str(run), "--train.steps=14"]) == 0
    capsys.readouterr()
    assert main(["plan", "default", f"--data.source={out}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vocabulary"] == 300


def test_another_tokenizer_than_that_of_the_shards_is_refused(
    corpus: Path, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    prepare(corpus, tokenizer=str(vocabulary), out=out)
    words = ["train", str(out), f"--runs-dir={tmp_path / 'runs'}", *WORDS]
    assert main([*words, "--data.tokenizer=byte"]) == 2
    assert f"--data.tokenizer={out.resolve()}" in capsys.readouterr().err
    assert main([*words, "--data.tokenizer=char"]) == 2
    assert "another tokenizer" in capsys.readouterr().err
    assert main([*words, f"--data.tokenizer={vocabulary}"]) == 0


def test_what_a_shipped_recipe_says_of_tokenizers_gives_way_to_the_shards(
    corpus: Path, vocabulary: Path, tmp_path: Path
) -> None:
    """And the run's config says which one it was."""
    out = tmp_path / "shards"
    prepare(corpus, tokenizer="byte", out=out)
    for recipe in ("gpt2-124m", "gpt2", "default"):
        found = resolve(recipe, flags={"data.source": str(out)})
        assert found.config.data.tokenizer == str(out.resolve() / "tokenizer.json")
        assert found.origins["data.tokenizer"] == "that of the shards"
    assert (
        resolve("gpt2", flags={"data.source": str(out), "data.tokenizer": "gpt2"}).config.data.tokenizer
        == "gpt2"
    )
    words = [*WORDS, f"--data.source={out}", f"--runs-dir={tmp_path / 'runs'}"]
    assert main(["train", "default", *words]) == 0


def test_shards_without_a_window_are_refused(
    corpus: Path, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a text is: the validation part is shorter than the context."""
    shards = prepare(corpus, tokenizer=str(vocabulary), out=tmp_path / "shards")
    held = shards.counts["validation"]["tokens"]
    words = [*WORDS, f"--model.context-length={held}", f"--runs-dir={tmp_path / 'runs'}"]
    assert main(["train", str(shards.path), *words]) == 4
    err = capsys.readouterr().err
    assert f"the validation part of the text holds {held} tokens, and one window needs {held + 1}" in err
    assert not (tmp_path / "runs").exists()


def test_a_limit_takes_validation_from_the_beginning(
    corpus: Path, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr("primer.data.documents.JOB", 100)
    tokenizer = f"--tokenizer={vocabulary}"
    assert main(["prepare", str(corpus), f"--out={tmp_path / 'all'}", tokenizer]) == 0
    limited = ["prepare", str(corpus), f"--out={tmp_path / 'some'}", tokenizer, "--limit-tokens=5000"]
    assert main(limited) == 0
    everything, some = (ShardDirectory.open(tmp_path / name) for name in ("all", "some"))
    first = everything.tokens("train")[:5000].tolist()
    validation = some.tokens("validation")[:].tolist()
    train = some.tokens("train")[:].tolist()
    assert len(validation) == 500
    assert validation == first[:500]
    assert len(validation) + len(train) == 5000
    assert train[0] == tokenizer_begin(some)
    assert main([*limited[:3], "--tokenizer=char", "--limit-tokens=5000"]) == 2
    assert "marks documents" in capsys.readouterr().err


def tokenizer_begin(shards: ShardDirectory) -> int:
    return shards.tokenizer.special_tokens["<|endoftext|>"]


SLOW = """
import sys, time
from primer.data import documents, prepare, writer
documents.JOB, prepare.NOTE_SECONDS = 300, float(sys.argv[1])
ordinary = writer.ShardWriter.write
def write(self, *values, **more):
    ordinary(self, *values, **more)
    print("wrote", flush=True)
    time.sleep(0.05)
writer.ShardWriter.write = write
from primer.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(
    ("number", "note", "code"),
    [(signal.SIGINT, 0, 130), (signal.SIGTERM, 0, 143), (signal.SIGHUP, 0, 129), (signal.SIGINT, 99, 130)],
)
def test_a_signal_says_what_is_kept_and_the_same_command_goes_on(
    number: int, note: float, code: int, corpus: Path, vocabulary: Path, tmp_path: Path
) -> None:
    words = ["prepare", str(corpus), f"--out={tmp_path / 'out'}", f"--tokenizer={vocabulary}", "--threads=1"]
    command = [sys.executable, "-c", SLOW, str(note), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        for _ in range(4):
            assert started.stdout.readline() == "wrote\n"
        started.send_signal(number)
        _, err = started.communicate()
    assert started.returncode == code
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
    kept = "stopped: what was done is kept" if not note else "stopped: before anything was kept"
    assert kept in err
    assert "try:    the same command" in err
    assert len(list(tmp_path.glob("out.tmp-*"))) == (not note)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ("going on after job" in again.stderr) == (not note)
    assert not list(tmp_path.glob("out.tmp-*"))
    fresh = prepare(corpus, tokenizer=str(vocabulary), out=tmp_path / "fresh")
    assert ShardDirectory.open(tmp_path / "out").fingerprint == fresh.fingerprint


def test_shards_made_from_something_else_are_not_overwritten(
    corpus: Path, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", str(corpus), f"--out={tmp_path / 'out'}"]
    assert main([*words, f"--tokenizer={vocabulary}"]) == 0
    assert main([*words, "--tokenizer=byte"]) == 2
    assert "another text, or otherwise" in capsys.readouterr().err
    assert main(["prepare"]) == 2
    assert main(["prepare", str(tmp_path / "missing")]) == 4


def test_published_token_files_are_trained_on_where_they_lie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], vocabulary: Path
) -> None:
    """llm.c's layout: 256 int32 (magic, version, count), then uint16."""
    folder = tmp_path / "published"
    folder.mkdir()
    ids = np.random.default_rng(0).integers(300, size=3000)
    for name, part in (("fineweb_val_000000.bin", ids[:500]), ("fineweb_train_000001.bin", ids[500:])):
        header = np.zeros(256, dtype="<i4")
        header[:3] = 20240520, 1, len(part)
        (folder / name).write_bytes(header.tobytes() + part.astype("<u2").tobytes())
    words = [
        "train",
        str(folder),
        f"--data.tokenizer={vocabulary}",
        f"--runs-dir={tmp_path / 'runs'}",
        *WORDS,
    ]
    assert main(words) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert main(["resume", str(run), "--train.steps=14"]) == 0
    assert main(["eval", str(run)]) == 0
    assert "499 tokens" in capsys.readouterr().out
    with open(folder / "fineweb_train_000001.bin", "r+b") as file:
        file.seek(2000)
        file.write(b"\x01\x00")
    assert main(["resume", str(run), "--train.steps=16"]) == 4
    assert "has changed" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["site", "shakespeare"])
def test_a_folder_with_a_manifest_of_its_own_is_a_text(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch, real_data: Path
) -> None:
    """Half of the web's projects have a manifest.json. And a source's name wins over whatever lies beside."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    folder.mkdir()
    (folder / "manifest.json").write_text('{"name": "an app"}')
    (folder / "page.md").write_text("A page of two hundred words, or so.\n" * 60)
    if name == "shakespeare":
        (folder / "tokenizer.json").write_text("{}")
        (folder / "x_train_000000.bin").write_bytes(b"")
    assert main(["train", "default", f"--data.source={name}", f"--runs-dir={tmp_path / 'runs'}", *WORDS]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    facts = json.loads((run / "run.json").read_text())
    assert facts["source"]["name"] == name
    expected = str(folder) if name == "site" else "https://raw.githubusercontent.com"
    assert facts["source"]["address"].startswith(expected)


def test_a_remedy_names_flags_of_this_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "latin.txt").write_bytes("café\n".encode("latin-1") * 9)
    words = ["prepare", str(tmp_path / "latin.txt"), f"--out={tmp_path / 'out'}", "--tokenizer=byte"]
    assert main(words) == 4
    said = capsys.readouterr().err
    assert "--encoding=cp1252" in said
    assert "--data." not in said
    assert main([*words, "--encoding=cp1252"]) == 0


def test_tokens_where_a_text_is_wanted_are_recognised(
    corpus: Path, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    assert main(["prepare", str(corpus), f"--out={out}", f"--tokenizer={vocabulary}"]) == 0
    file = next(out.glob("*.bin"))
    capsys.readouterr()
    for words in (
        ["prepare", str(out), f"--out={tmp_path / 'again'}"],
        ["tokenizer", "report", str(vocabulary), str(out)],
        ["train", str(file), *WORDS],
        ["train", "default", f"--data.source={file}", *WORDS],
    ):
        assert main([*words]) == 4
        said = capsys.readouterr().err
        assert "tokens" in said.partition("try:")[0]
        assert "files named train and val" in said


def test_windows_that_begin_at_documents_need_more_than_one_of_them(
    vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "book.txt").write_text("".join(f"{n} plus {n} is {2 * n}.\n" for n in range(900)))
    words = ["train", str(tmp_path / "book.txt"), f"--data.tokenizer={vocabulary}", *WORDS]
    assert main([*words, f"--runs-dir={tmp_path / 'runs'}", "--data.order=documents"]) == 4
    said = capsys.readouterr().err
    assert "would leave out 99" in said
    assert "--data.order=epochs" in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flag", ["--data.validation-fraction=0.2", "--data.field=content"])
def test_flags_for_texts_are_refused_for_tokens(
    flag: str, corpus: Path, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shards"
    assert main(["prepare", str(corpus), f"--out={out}", f"--tokenizer={vocabulary}"]) == 0
    capsys.readouterr()
    words = ["train", "default", f"--data.source={out}", f"--runs-dir={tmp_path / 'runs'}", *WORDS]
    assert main([*words, flag]) == 2
    said = capsys.readouterr().err
    assert "was decided when these tokens were made" in said
    assert f"leave {flag.partition('=')[0]} out" in said
    assert main(words) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert main(["train", str(run / "config.toml"), f"--runs-dir={tmp_path / 'runs'}"]) == 0
