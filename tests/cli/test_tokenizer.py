"""`primer tokenizer` as a person meets it, with tiktoken as the judge of ids."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from primer import tokens
from primer.cli import tokens_seen
from primer.cli.main import main
from primer.cli.tokenizer import counted, numbers
from primer.cli.tokens_seen import SENTENCES, bordered, look, written
from primer.corpus import readers, sources
from primer.errors import DataError
from primer.tokens import BPETokenizer, CharTokenizer


@pytest.fixture
def made(text_file: Path, tmp_path: Path) -> Path:
    """A tokenizer's file, by the command itself."""
    out = tmp_path / "made" / "tokenizer.json"
    words = ["tokenizer", "train", str(text_file), "--vocab-size=300", f"--out={out}", "--pattern=gpt2"]
    assert main(words) == 0
    return out


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_training_writes_what_the_library_learns(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made" / "tokenizer.json"
    words = ["tokenizer", "train", str(text_file), "--vocab-size=300", f"--out={made}", "--pattern=gpt2"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out == f"{made}\n"
    assert f"read {len(text_file.read_text()):,} characters" in err
    assert "300 tokens in" in err
    expected = BPETokenizer.train([text_file.read_text(encoding="utf-8")], 300, pattern="gpt2")
    assert made.read_text(encoding="utf-8") == expected.to_json()
    assert [path.name for path in made.parent.iterdir()] == ["tokenizer.json"]


def test_training_takes_every_kind_of_text_and_flag(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_bytes("größer, größte ".encode("cp1252") * 9)
    (folder / "b.jsonl").write_text(json.dumps({"body": "the rest of it " * 9}), encoding="utf-8")
    out = tmp_path / "t.json"
    flags = ["--vocab-size=263", "--special=<|a|>", "--special", "<|b|>", "--json", f"--out={out}"]
    how = ["--data.encoding=cp1252", "--data.field=body"]
    assert main(["tokenizer", "train", str(folder), *flags, *how]) == 0
    said = json.loads(capsys.readouterr().out)
    tokenizer = tokens.open_tokenizer(out)
    assert said == {
        "path": str(out),
        "vocab_size": 263,
        "fingerprint": tokenizer.fingerprint,
        "pattern": "gpt4",
        "special_tokens": {"<|a|>": 261, "<|b|>": 262},
    }
    text = "größer, größte " * 9 + "\n\n" + "the rest of it " * 9
    expected = BPETokenizer.train([text], 263, special_tokens=["<|a|>", "<|b|>"])
    assert tokenizer.fingerprint == expected.fingerprint
    assert main(["tokenizer", "train", str(folder), "--special=", *flags[:1], *how, flags[-1]]) == 2
    assert (
        main(["tokenizer", "train", str(folder), "--special=", *flags[:1], *how, flags[-1], "--overwrite"])
        == 0
    )
    assert not tokens.open_tokenizer(out).special_tokens


def test_nothing_is_overwritten_unasked(
    made: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = made.read_bytes()
    words = ["tokenizer", "train", str(text_file), "--vocab-size=280", f"--out={made}"]
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert made.read_bytes() == before
    assert main([*words, "--overwrite"]) == 0
    assert tokens.open_tokenizer(made).vocab_size == 280


@pytest.mark.parametrize(
    ("content", "flags", "code", "said"),
    [
        (b"", [], 4, ["vocabulary of 257", "--vocab-size=257"]),
        (b"ab ab", [], 4, ["has pairs for a vocabulary of 259, and 4096 was asked for", "--vocab-size=259"]),
        (b"abc", ["--vocab-size=100"], 2, ["256 bytes and 1 special tokens", "--vocab-size=257"]),
        (b"a\x00b", [], 4, ["binary"]),
        (b"a\xffb", [], 4, ["byte 0xff at offset 1", "--data.encoding=cp1252"]),
        (b"abc", ["--pattern=gpt3"], 2, ["pattern must be one of gpt2, gpt4"]),
        (b"abc", ["--special=<a>", "--special=<a>"], 2, ["special token is given twice"]),
        (b"abc", ["--vocab=3"], 2, ["unknown flag --vocab", "--vocab-size"]),
    ],
)
def test_a_text_that_teaches_nothing_leaves_nothing_behind(
    content: bytes, flags: list[str], code: int, said: list[str], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    assert (
        main(["tokenizer", "train", str(tmp_path / "t.txt"), f"--out={tmp_path / 'o.json'}", *flags]) == code
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    for part in said:
        assert part in err
    assert [path.name for path in tmp_path.iterdir()] == ["t.txt"]


def test_ids_go_in_and_out(made: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokens.open_tokenizer(made)
    text = "seven times eight is 56.\n"
    capsys.readouterr()
    assert main(["tokenizer", "encode", str(made), text]) == 0
    ids = capsys.readouterr().out
    assert ids == " ".join(map(str, tokenizer.encode(text))) + "\n"
    assert main(["tokenizer", "decode", str(made), *ids.split()]) == 0
    assert capsys.readouterr().out == text
    piped(monkeypatch, text.encode())
    assert main(["tokenizer", "encode", str(made)]) == 0
    assert capsys.readouterr().out == ids
    piped(monkeypatch, json.dumps([int(word) for word in ids.split()]).encode())
    assert main(["tokenizer", "decode", str(made)]) == 0
    assert capsys.readouterr().out == text
    assert main(["tokenizer", "encode", str(made), "eight é", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ids"] == tokenizer.encode("eight é").tolist()
    assert said["tokens"][-2:] == ["\\xc3", "\\xa9"]
    assert main(["tokenizer", "decode", str(made), *map(str, said["ids"]), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ids": said["ids"], "text": "eight é"}


def test_gpt2_says_what_tiktokens_readme_says(real_data: Path, capsys: Any) -> None:
    assert main(["tokenizer", "encode", "gpt2", "hello world"]) == 0
    assert capsys.readouterr().out == "31373 995\n"
    assert main(["tokenizer", "decode", "gpt2", "31373,", "995"]) == 0
    assert capsys.readouterr().out == "hello world"
    assert main(["tokenizer", "encode", "byte", "é"]) == 0
    assert capsys.readouterr().out == "195 169\n"


def test_a_special_token_is_refused_until_it_is_said_what_it_is(made: Path, capsys: Any) -> None:
    words = ["tokenizer", "encode", str(made), "one<|endoftext|>"]
    capsys.readouterr()
    assert main(words) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert "'<|endoftext|>' at position 3" in err
    assert "--special=allow" in err
    assert main([*words, "--special=allow", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ids"][-1], said["tokens"][-1]) == (299, "<|endoftext|>")
    assert main([*words, "--special=text"]) == 0
    assert "299" not in capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["12", "300"], ["token id 300 is outside the vocabulary of 300", "position 1 of the ids"]),
        (["12", "-1"], ["token id -1 is outside"]),
        (["12,13,x,14"], ["'x' is no token id", "position 2 of the ids"]),
        (["1.5"], ["'1.5' is no token id", "position 0"]),
        (["9" * 5000], ["is no token id"]),
        (["9" * 25], ["is outside the vocabulary"]),
    ],
)
def test_an_id_that_is_none_is_named(words: list[str], said: list[str], made: Path, capsys: Any) -> None:
    capsys.readouterr()
    assert main(["tokenizer", "decode", str(made), *words]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    for part in said:
        assert part in err


def test_ids_may_be_written_in_any_of_the_usual_ways() -> None:
    assert numbers("[1, 2,3]\n4\t5", 10) == [1, 2, 3, 4, 5]
    assert numbers("", 10) == []
    with pytest.raises(DataError):
        numbers("1 1_000", 10_000)


def test_what_comes_through_a_pipe_must_be_text(made: Path, capsys: Any, monkeypatch: Any) -> None:
    piped(monkeypatch, b"ab\xff")
    assert main(["tokenizer", "encode", str(made)]) == 4
    assert "not UTF-8 at byte 2" in capsys.readouterr().err


def test_without_a_pipe_nobody_waits(made: Path, capsys: Any, monkeypatch: Any) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert main(["tokenizer", "encode", str(made)]) == 2
    assert "the text is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, ["primer tokenizer needs a verb", "train, encode"]),
        (["trian"], 2, ["unknown verb 'trian'", "primer tokenizer train"]),
        (["train"], 2, ["primer tokenizer train needs a text", "primer tokenizer train my.txt"]),
        (["encode"], 2, ["needs a tokenizer"]),
        (["encode", "gtp2", "a"], 4, ["'gtp2' is no tokenizer", "did you mean gpt2?"]),
        (["encode", "mine.json", "a"], 4, ["'mine.json' is no tokenizer", "gpt2", "a run"]),
        (["encode", "byte", "a", "b"], 2, ["one argument too many: 'b'"]),
        (["report", "byte", "nothing.txt"], 4, ["no file or folder 'nothing.txt'"]),
        (["report", "byte", "--passage=-1"], 2, ["must not be negative"]),
        (["train", "nothing.txt"], 4, ["no file or folder 'nothing.txt'"]),
    ],
)
def test_mistakes_take_three_lines_and_a_code(
    words: list[str], code: int, said: list[str], capsys: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tokenizer", *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error:  ")
    assert len(err.splitlines()) <= 3
    for part in said:
        assert part in err
    assert not list(tmp_path.iterdir())


def test_a_run_lends_its_tokenizer(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "runs" / "2026-01-01-lecture-abc123"
    (path / "checkpoints").mkdir(parents=True)
    (path / "run.json").write_text(json.dumps({"data": {"path": "", "fingerprint": ""}}), encoding="utf-8")
    (path / "tokenizer.json").write_text(CharTokenizer("abc").to_json(), encoding="utf-8")
    folder = f"--runs-dir={tmp_path / 'runs'}"
    for name in ("latest", "abc", str(path)):
        assert main(["tokenizer", "encode", name, "cab", folder]) == 0
        assert capsys.readouterr().out == "2 0 1\n"
    assert main(["tokenizer", "encode", "abc", "cabd", folder]) == 4
    err = capsys.readouterr().err
    assert "unknown character 'd'" in err
    assert "--data.unknown" not in err
    assert main(["tokenizer", "report", "abc", folder, "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["texts"]}
    assert rows["English"]["bytes_per_token"] is None
    assert rows["English"]["unknown"] == sum(c not in "abc" for c in SENTENCES["English"])
    assert main(["tokenizer", "report", "abc", folder]) == 0
    assert "characters unknown" in capsys.readouterr().out


def test_the_report_counts_as_one_counts_by_hand(made: Path, text_file: Path, capsys: Any) -> None:
    other = text_file.parent / "other.txt"
    other.write_text("seven <|endoftext|> été\n", encoding="utf-8")
    capsys.readouterr()
    words = ["tokenizer", "report", str(made), str(text_file), str(other), "--json", "--passage=30"]
    assert main([*words, "--longest=4"]) == 0
    seen = json.loads(capsys.readouterr().out)
    tokenizer = tokens.open_tokenizer(made)
    every = []
    for row, path in zip(seen["texts"], (text_file, other), strict=True):
        text = path.read_text(encoding="utf-8")
        ids = tokenizer.encode(text, special="text")
        every += ids.tolist()
        size = len(text.encode())
        assert row == {
            "name": path.name,
            "characters": len(text),
            "bytes": size,
            "tokens": len(ids),
            "unknown": 0,
            "bytes_per_token": round(size / len(ids), 4),
        }
    for one in seen["lengths"]:
        assert one["in_vocabulary"] == sum(length == one["bytes"] for length in tokenizer.byte_lengths)
        assert one["in_texts"] == sum(tokenizer.byte_lengths[token] == one["bytes"] for token in every)
    assert sum(one["in_vocabulary"] for one in seen["lengths"]) == 300
    longest = [one["bytes"] for one in seen["longest"]]
    assert longest == sorted(map(int, tokenizer.byte_lengths), reverse=True)[:4]
    assert "".join(seen["passage"]) == text_file.read_text(encoding="utf-8")[:30]
    assert (seen["tokenizer"], seen["kind"], seen["vocab_size"]) == (str(made), "bpe", 300)


def test_it_does_not_matter_in_which_pieces_a_file_is_read(
    text_file: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    text = text_file.read_text(encoding="utf-8")
    expected = BPETokenizer.train([text], 300)
    for module in (readers, sources):
        monkeypatch.setattr(module, "BLOCK", 50)
    out = tmp_path / "t.json"
    assert main(["tokenizer", "train", str(text_file), "--vocab-size=300", f"--out={out}"]) == 0
    assert out.read_text(encoding="utf-8") == expected.to_json()
    capsys.readouterr()
    assert main(["tokenizer", "report", str(out), str(text_file), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["texts"]
    assert row["tokens"] == len(expected.encode(text))


def test_without_a_text_it_speaks_many_languages(made: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    capsys.readouterr()
    assert main(["tokenizer", "report", str(made)]) == 0
    said = capsys.readouterr().out
    for name, sentence in SENTENCES.items():
        (line,) = [line for line in said.splitlines() if line.startswith(f"{name} ")]
        assert f" {len(sentence.encode()):,} " in line
    assert len({tuple(sentence) for sentence in SENTENCES.values()}) >= 15
    assert "\x1b" not in said


def test_borders_are_bars_without_colours_and_shades_with_them(monkeypatch: Any) -> None:
    parts = ["one", " two", "\n", "\\xe2", "a\x1b\n\nb"]
    monkeypatch.setattr(tokens_seen, "unicode", lambda: True)
    monkeypatch.setattr(tokens_seen, "colour", lambda: False)
    assert bordered(parts) == "one│ two│⏎\n│\\xe2│a\\x1b⏎\n⏎\nb"
    monkeypatch.setattr(tokens_seen, "unicode", lambda: False)
    assert bordered(parts) == "one| two|\\n\n|\\xe2|a\\x1b\\n\n\\n\nb"
    monkeypatch.setattr(tokens_seen, "colour", lambda: True)
    first, second = (f"\x1b[30;48;5;{shade}m" for shade in tokens_seen.SHADES[:2])
    assert bordered(["one", "\ntwo"]) == f"{first}one\x1b[0m{second}\\n\x1b[0m\n{second}two\x1b[0m"


def test_a_token_is_written_as_one_can_read_it() -> None:
    tokenizer = BPETokenizer([(0xE2, 0x98), (97, 98)], special_tokens={"<|e|>": 258})
    assert [written(tokenizer, token) for token in (0x61, 0xE2, 256, 257, 258)] == [
        "a", "\\xe2", "\\xe2\\x98", "ab", "<|e|>",
    ]  # fmt: skip


def test_a_report_of_a_tokenizer_that_never_saw_a_text(tmp_path: Path) -> None:
    (tmp_path / "e.txt").write_text("", encoding="utf-8")
    seen = look(BPETokenizer([]), [str(tmp_path / "e.txt")], decoding={}, passage=10, longest=0)
    assert seen["texts"][0]["bytes_per_token"] is None
    assert seen["passage"] == seen["longest"] == []
    assert [line.split() for line in tokens_seen.page(seen).splitlines()[3:4]] == [
        ["e.txt", "0", "0", "-", "-"]
    ]


def test_progress_is_told_now_and_then(capsys: Any) -> None:
    assert list(counted(["ab", "cde"], interval=-1.0)) == ["ab", "cde"]
    assert capsys.readouterr().err == (
        "read 2 characters\nread 5 characters\nread 5 characters; learning merges\n"
    )
    assert list(counted(["ab", "cde"], interval=100.0)) == ["ab", "cde"]
    assert capsys.readouterr().err == "read 5 characters; learning merges\n"


@pytest.mark.parametrize("word", ["train", "encode", "decode", "report"])
def test_each_words_help_needs_no_torch_and_shows_three_examples(word: str) -> None:
    code = (
        "import sys\nfrom primer.cli.main import main\n"
        f"code = main(['tokenizer', '{word}', '--help'])\n"
        "print('|' + str('torch' in sys.modules)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, _, heavy = done.stdout.rpartition("|")
    assert heavy == "False\n"
    examples = said.partition("examples:\n")[2].partition("\n\n")[0].splitlines()
    assert len(examples) == 3
    assert all(f"primer tokenizer {word}" in line or "|" in line for line in examples)


def test_the_whole_way_needs_no_torch(text_file: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom primer.cli.main import main\n"
        "text, out = sys.argv[1:]\n"
        "for words in (['train', text, '--vocab-size=280', '--out=' + out], ['encode', out, 'two'], ['report', out]):\n"
        "    assert main(['tokenizer', *words]) == 0, words\n"
    )
    words = [sys.executable, "-c", code, str(text_file), str(tmp_path / "t.json")]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    subprocess.run(words, check=True, capture_output=True, env=environment)


def test_a_text_is_no_damaged_tokenizer_and_a_folder_may_hold_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "my.txt"
    text.write_text("one two three, one two three. " * 40)
    assert main(["tokenizer", "report", str(text)]) == 4
    said = capsys.readouterr().err
    assert "this file is no tokenizer" in said
    assert "checksum" not in said
    assert main(["prepare", str(text), "--tokenizer=byte", f"--out={tmp_path / 'shards'}"]) == 0
    again = ["prepare", str(text), f"--tokenizer={tmp_path / 'shards'}", f"--out={tmp_path / 'again'}"]
    assert main(again) == 0
