"""`primer translate` and `primer eval` of a run on pairs, as a user would type them."""

import io
import json
import sys
from pathlib import Path

import pytest

import primer
from primer.cli.main import main
from primer.generation.config import BeamConfig
from primer.recipes.translating import Translated, read
from setups import TINY_PAIRS, reversed_digits


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, which has learned next to nothing, and a file of sentences."""
    folder = tmp_path_factory.mktemp("translate")
    source = reversed_digits(folder)
    flags = [f"--{name}={value}" for name, value in TINY_PAIRS.items()]
    assert (
        main(["train", "translation", f"--data.source={source}", f"--runs-dir={folder / 'runs'}", *flags])
        == 0
    )
    (folder / "numbers.txt").write_text("12\n345\n6789\n")
    return folder


def said(place: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    verb, *rest = words
    assert main([verb, "latest", *rest, f"--runs-dir={place / 'runs'}"]) == code
    out, err = capsys.readouterr()
    return out, err


def test_a_sentence_a_file_and_a_pipe_are_translated_alike(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = place / "numbers.txt"
    lines, _ = said(place, capsys, "translate", f"--file={file}")
    assert len(lines.splitlines()) == 3
    alone = [said(place, capsys, "translate", number)[0] for number in ("12", "345", "6789")]
    assert "".join(alone) == lines
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert said(place, capsys, "translate")[0] == lines
    out = tmp_path / "out.txt"
    assert said(place, capsys, "translate", f"--file={file}", f"--out={out}")[0] == ""
    assert out.read_text() == lines
    _, err = said(place, capsys, "translate", f"--file={file}", f"--out={out}", code=2)
    assert "something is here already" in err
    slow, _ = said(place, capsys, "translate", f"--file={file}", "--no-cache")
    assert slow == lines


def test_json_says_how_sure_it_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = said(place, capsys, "translate", "12", "--json", "--beam=1")
    answer = json.loads(out)
    assert answer["source"] == "12"
    assert answer["log_p"] <= answer["score"] < 0


def test_empty_lines_stop_or_stay(place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "gaps.txt"
    file.write_text("12\n\n  \n345\n")
    _, err = said(place, capsys, "translate", f"--file={file}", code=4)
    assert f"{file}, line 2" in err
    assert "--empty=keep" in err
    out, _ = said(place, capsys, "translate", f"--file={file}", "--empty=keep")
    first, second, third, fourth = out.split("\n")[:4]
    assert (second, third) == ("", "")
    assert (first, fourth) == tuple(
        said(place, capsys, "translate", n)[0].rstrip("\n") for n in ("12", "345")
    )


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([""], 4, "the sentence is empty"),
        (["1" * 60], 4, "61 tokens"),
        (["1", "2"], 2, "one argument too many"),
        (["1", "--file=x"], 2, "exclude each other"),
        (["--file=no-such-file"], 4, "no such file"),
        (["--file=."], 4, "a folder"),
        (["1", "--beam=0"], 2, "beam"),
        (["1", "--attention=x.gif"], 2, ".png or .svg"),
        (["--attention=x.png"], 2, "for one sentence"),
    ],
)
def test_mistakes_say_what_to_do(
    words: list[str], code: int, says: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = said(place, capsys, "translate", *words, code=code)
    assert out == ""
    assert says in err
    assert err.startswith("error:")
    assert "try:" in err


@pytest.mark.parametrize(
    ("text", "more", "line"),
    [
        ("1\n" * 300 + "2" * 50 + "\n", [], 301),
        ("1\n" * 256 + "2" * 50 + "\n", [], 257),  # alone in what is translated together
        ("12\n\n\n" + "2" * 50 + "\n", ["--empty=keep"], 4),
        ("2" * 50 + "\n", [], 1),
    ],
)
def test_a_line_that_is_too_long_is_named_before_any_is_translated(
    text: str, more: list[str], line: int, place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "long.txt"
    file.write_text(text)
    out, err = said(place, capsys, "translate", f"--file={file}", "--beam=1", *more, code=4)
    assert f"{file}, line {line}\n" in err
    assert "--long=keep" in err
    assert out == ""


def test_long_lines_may_stay_empty_and_are_counted(
    place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "long.txt"
    file.write_text("12\n" + "2" * 50 + "\n345\n")
    out, err = said(place, capsys, "translate", f"--file={file}", "--long=keep")
    alone = [said(place, capsys, "translate", number)[0] for number in ("12", "345")]
    assert out == f"{alone[0]}\n{alone[1]}"
    assert "1 of 3 sentences have more than 40 tokens" in err
    rows = said(place, capsys, "translate", f"--file={file}", "--long=keep", "--json")[0].splitlines()
    found = [json.loads(row) for row in rows]
    assert len({tuple(row) for row in found}) == 1  # the same keys, in the same order
    assert (found[1]["text"], found[1]["log_p"], found[1]["ended"]) == ("", None, None)


def test_a_pipe_has_the_lines_of_a_file(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also an empty one at its end, and without the mark that some programs put at its beginning."""
    content = b"\xef\xbb\xbf12\n345\n\n"
    (tmp_path / "gaps.txt").write_bytes(content)
    wanted, _ = said(place, capsys, "translate", f"--file={tmp_path / 'gaps.txt'}", "--empty=keep")
    assert wanted.count("\n") == 3
    assert wanted.startswith(said(place, capsys, "translate", "12")[0])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert said(place, capsys, "translate", "--empty=keep")[0] == wanted
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert "stdin, line 3" in said(place, capsys, "translate", code=4)[1]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\xff")))
    assert "byte 1 is not UTF-8" in said(place, capsys, "translate", code=4)[1]
    (tmp_path / "gaps.txt").write_bytes(b"")
    assert (
        str(tmp_path / "gaps.txt")
        in said(place, capsys, "translate", f"--file={tmp_path / 'gaps.txt'}", code=4)[1]
    )


def test_ctrl_c_keeps_what_is_translated(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from primer.cli import translate
    from primer.recipes import translating

    wanted, _ = said(place, capsys, "translate", f"--file={place / 'numbers.txt'}")
    monkeypatch.setattr(translate, "AT_ONCE", 2)
    search, calls = translating.search, []

    def interrupted(*values: object, **named: object) -> object:
        calls.append(values)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return search(*values, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(translating, "search", interrupted)
    out = tmp_path / "out.txt"
    words = ["translate", f"--file={place / 'numbers.txt'}", f"--out={out}"]
    _, err = said(place, capsys, *words, code=130)
    assert not out.exists()
    assert (tmp_path / "out.txt.part").read_text() == "".join(wanted.splitlines(keepends=True)[:2])
    assert "the first 2 lines" in err


def test_flags_arrive(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in what searches, of translations and of scores; without them it is as the run says."""
    from primer.recipes import pair_scores, translating

    search, heard = translating.search, []

    def listening(run: primer.Run, ids: object, how: BeamConfig, **named: object) -> object:
        cached = named.get("use_cache", True)
        heard.append((run.which, how.beam, how.length_penalty, how.extra_length, cached))
        return search(run, ids, how, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(translating, "search", listening)
    monkeypatch.setattr(pair_scores, "search", listening)
    said(place, capsys, "translate", "12")
    flags = ("--length-penalty=0", "--beam=1", "--checkpoint=latest", "--no-cache")
    said(place, capsys, "translate", "12", *flags)
    said(place, capsys, "eval", "--beam=2")
    assert heard == [
        ("average", 4, 0.6, 5, True),
        ("latest", 1, 0.0, 5, False),
        ("average", 2, 0.6, 5, True),
    ]


def test_a_cut_translation_is_said_to_be_cut(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And drawn without an end, however long it is."""
    from primer.recipes import translating

    cut = Translated("1" * 40, -1.0, -1.0, tuple([ord("1")] * 40), ended=False)
    monkeypatch.setattr(translating, "search", lambda run, ids, *rest, **named: [cut] * len(ids))
    _, err = said(place, capsys, "translate", "12")
    assert "the translation was cut" in err
    _, err = said(place, capsys, "translate", f"--file={place / 'numbers.txt'}")
    assert "3 of the translations were cut" in err
    values = json.loads(
        said(place, capsys, "translate", "12", f"--attention={tmp_path / 'a.svg'}", "--json")[0]
    )
    assert len(values["target"]) == 40
    assert "■" not in values["target"]


def test_where_it_looked_is_drawn(place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "where.svg"
    out, err = said(place, capsys, "translate", "345", f"--attention={picture}", "--json")
    values = json.loads(out)
    assert values["source"] == ["3", "4", "5", "■"]
    pattern = values["pattern"]  # (L, H, T, S)
    assert len(pattern) == 1
    assert len(pattern[0]) == 2
    assert all(abs(sum(row) - 1) < 1e-5 and len(row) == 4 for head in pattern[0] for row in head)
    assert len(pattern[0][0]) == len(values["target"])
    assert picture.read_text().lstrip().startswith("<?xml")
    assert str(picture) in err


def test_the_score_is_sacrebleus_with_its_signature(
    place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import sacrebleu

    pairs = tmp_path / "pairs.tsv"
    numbers = ["12", "345", "6789", "55"]
    pairs.write_text("".join(f"{n}\t{n[::-1]}\n" for n in numbers))
    found = json.loads(said(place, capsys, "eval", f"--on={pairs}", "--json")[0])
    (tmp_path / "in.txt").write_text("\n".join(numbers) + "\n")
    out, _ = said(place, capsys, "translate", f"--file={tmp_path / 'in.txt'}")
    wanted = sacrebleu.corpus_bleu(out.split("\n")[:-1], [[n[::-1] for n in numbers]], force=True)
    assert found["bleu"] == pytest.approx(wanted.score)
    assert found["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert (found["pairs"], found["words"], found["beam"]) == (4, 4, 4)
    for side, number in (("a.txt", slice(None)), ("b.txt", slice(None, None, -1))):
        (tmp_path / side).write_text("".join(n[number] + "\n" for n in numbers))
    two = said(
        place, capsys, "eval", f"--on={tmp_path / 'a.txt'}", f"--target={tmp_path / 'b.txt'}", "--json"
    )[0]
    assert json.loads(two)["bleu"] == found["bleu"]
    shown, _ = said(place, capsys, "eval")
    assert "BLEU" in shown
    assert "the validation part of" in shown


def test_what_is_for_texts_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = said(place, capsys, "eval", "--shots=2", code=2)
    assert "this run translates" in err
    _, err = said(place, capsys, "sample", "1", code=2)
    assert "primer translate" in err
    _, err = said(place, capsys, "eval", "--on=test", code=4)
    assert "no test part" in err
    _, err = said(place, capsys, "eval", "--target=x.de", code=2)
    assert "--on=FILE --target=FILE" in err
    _, err = said(place, capsys, "eval", "--seed=3", code=2)
    assert "--seed is for texts and tasks" in err


def test_runs_are_listed_and_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", f"--runs-dir={place / 'runs'}"]) == 0
    assert "translation" in capsys.readouterr().out
    shown, _ = said(place, capsys, "plan")
    assert "tokens/s" in shown


def files(folder: Path, source: str, target: str) -> list[str]:
    """Two files of these texts, as flags."""
    (folder / "a.en").write_text(source)
    (folder / "a.de").write_text(target)
    return [f"--data.source={folder / 'a.en'}", f"--data.target={folder / 'a.de'}"]


@pytest.mark.parametrize(
    ("source", "target", "more", "code", "says"),
    [
        ("a\nb\nc\n", "x\ny\n", [], 4, ["3", "2", "a.en", "a.de"]),
        ("a\n\n", "\nb\n", [], 4, ["no train pairs", "empty on the source side", "empty on the target side"]),
        ("", "", [], 4, ["no train pairs"]),
        ("a b\n" * 9, "x y\n" * 9, ["--data.target="], 2, ["half a pair", "--data.target"]),
        ("a b\n" * 9, "x y\n" * 9, ["--data.target=gone.de"], 4, ["gone.de"]),
        ("a b\n" * 9, "x y\n" * 9, ["--data.tokenizer=byte"], 2, ["no token that ends a sentence"]),
        ("a b\n" * 9, "x y\n" * 9, ["--data.vocab-size=100"], 2, ["at least 257"]),
        ("a b\n" * 9, "x y\n" * 9, ["--train.batch-tokens=0"], 2, ["batch_tokens must be at least 1"]),
        ("a b\n" * 9, "x y\n" * 9, ["--model.n-heads=3"], 2, ["does not divide"]),
        (
            "".join(f"{'a' * 60}{n}\n" for n in range(40)),
            "x\n" * 40,
            [],
            4,
            ["of 3", "none has two sentences"],
        ),
    ],
)
def test_bad_pairs_say_what_is_wrong(
    source: str,
    target: str,
    more: list[str],
    code: int,
    says: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [f"--{name}={value}" for name, value in TINY_PAIRS.items()]
    words = [
        "train",
        "translation",
        f"--runs-dir={tmp_path / 'runs'}",
        *flags,
        *files(tmp_path, source, target),
    ]
    assert main([*words, *more]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert all(part in err for part in says), err
    assert not list(tmp_path.glob("runs/*/config.toml"))  # nothing was begun


def test_characters_that_no_training_pair_had_are_read(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The vocabulary is of bytes: there is no unknown character, in whatever script."""
    text = "日本 ☂️ 👩‍🌾"
    out, _ = said(place, capsys, "translate", text)
    assert out.endswith("\n")
    tokenizer = primer.load("latest", runs_dir=place / "runs").tokenizer
    assert tokenizer.decode(read(text, tokenizer, 40)[:-1]) == text
