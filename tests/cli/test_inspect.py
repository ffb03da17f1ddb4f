"""`primer inspect flash`, as a person types it."""

import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import primer
from primer.cli.inspect import EXAMPLES, MOST_ROWS, picture
from primer.cli.main import main
from primer.lens.flash import Step
from primer.lens.trace import trace
from setups import TINY, TINY_PAIRS, reversed_digits

Says = Callable[..., str]
PROMPT = "--prompt=two times"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> primer.Run:
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text("".join(f"two times {n} is {2 * n}.\n" for n in range(200)), encoding="utf-8")
    return primer.train(text, flags={**TINY, "train.sample_every": 0}, runs_dir=text.parent / "runs")


@pytest.fixture
def says(trained: primer.Run, capsys: pytest.CaptureFixture[str]) -> Says:
    def said(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert main(["inspect", "flash", str(trained.path), *words]) == code
        out, err = capsys.readouterr()
        return err if code else out

    return said


def test_every_tile_of_a_prompt(says: Says) -> None:
    """Nine tokens in tiles of four: three by three, of which the three above the diagonal are skipped."""
    out = says(PROMPT, "--tile=4", "--head=1")
    assert "layer 0, head 1 of " in out
    assert "9 queries and 9 keys of 8 numbers, in tiles of 4 by 4:" in out
    heads = re.findall(r"^tile (\d) of 6, (\w+): queries (\d)–(\d) (.*), keys (\d)–(\d) (.*)$", out, re.M)
    assert heads == [
        ("1", "masked", "0", "3", '"two "', "0", "3", '"two "'),
        ("2", "full", "4", "7", '"time"', "0", "3", '"two "'),
        ("3", "masked", "4", "7", '"time"', "4", "7", '"time"'),
        ("4", "full", "8", "8", '"s"', "0", "3", '"two "'),
        ("5", "full", "8", "8", '"s"', "4", "7", '"time"'),
        ("6", "full", "8", "8", '"s"', "8", "8", '"s"'),
    ]
    drawn = [line[2:7] for line in out.splitlines() if re.match(r"  [■◪▣□·] [■◪▣□·] [■◪▣□·]   ", line)]
    assert drawn[:3] == ["▣ · ·", "□ □ ·", "□ □ □"]
    assert drawn[6:9] == ["◪ · ·", "■ ▣ ·", "□ □ □"]
    assert drawn[-3:] == ["◪ · ·", "■ ◪ ·", "■ ■ ▣"]
    assert "9 tiles: 4 full, 2 masked, 3 skipped" in out
    assert {line.index("bytes moved") for line in out.splitlines() if "bytes moved (" in line} == {10}
    assert len({line.index("before") for line in out.splitlines() if line.endswith("after")}) == 1
    assert "\x1b" not in out  # no colour into a pipe


def test_as_json_it_is_the_softmax_of_the_models_own_scores(says: Says, trained: primer.Run) -> None:
    told = json.loads(says(PROMPT, "--block-q=4", "--block-k=2", "--head=1", "--json"))
    ids = torch.tensor(told["tokens"])[None]
    assert trained.tokenizer.decode(told["tokens"]) == "two times"
    assert (told["layer"], told["head"], told["block_q"], told["block_k"]) == (0, 1, 4, 2)
    scores = trace(trained.gpt, ids, ["layers.0.attn_scores"])["layers.0.attn_scores"][0, 1].double()
    assert [(step["queries"], step["keys"]) for step in told["steps"]] == [
        ([a, min(a + 4, 9)], [s, min(s + 2, 9)]) for a in range(0, 9, 4) for s in range(0, 9, 2)
    ]
    for step in told["steps"]:
        row = min(step["queries"][1], 9) - 1
        assert step["row"] == row
        seen = scores[row, : step["keys"][1]]
        assert step["max_after"] == pytest.approx(float(seen.max()), abs=1e-6)
        assert step["sum_after"] == pytest.approx(float(torch.exp(seen - seen.max()).sum()), rel=1e-5)
        if step["max_before"] is not None:
            assert step["rescale"] == pytest.approx(
                float(torch.exp(torch.tensor(step["max_before"] - step["max_after"])))
            )
    assert [step["kind"] for step in told["steps"][:5]] == [
        "masked",
        "masked",
        "skipped",
        "skipped",
        "skipped",
    ]
    assert max(told["error"], told["model_error"]) < 1e-5
    assert told["moved"] == told["steps"][-1]["moved"]
    assert told["naive"] == 4 * (4 * 9 * 8 + 4 * 9 * 9)


def test_without_a_prompt_it_reads_the_runs_own_validation_text(says: Says, trained: primer.Run) -> None:
    """As much as the model reads at once, in four by four tiles."""
    told = json.loads(says("--json"))
    text = Path(trained.config.data.source).read_text(encoding="utf-8")
    assert len(told["tokens"]) == 16
    assert trained.tokenizer.decode(told["tokens"]) in text[len(text) // 2 :]
    assert (told["block_q"], told["block_k"], len(told["steps"])) == (4, 4, 16)
    fewer = json.loads(says("--json", "--tokens=5"))
    assert fewer["tokens"] == told["tokens"][:5]
    assert (fewer["block_q"], len(fewer["steps"])) == (2, 9)


def test_a_row_is_followed_through_its_tiles(says: Says) -> None:
    out = says(PROMPT, "--tile=3", "--row=4")
    assert re.findall(r"^tile (\d) of 6", out, re.M) == ["2", "3"]
    assert out.count('query 4 "t"') == 2
    told = json.loads(says(PROMPT, "--tile=3", "--row=4", "--json"))
    (last,) = (step for step in told["steps"] if step["queries"] == [3, 6] and step["keys"] == [3, 6])
    assert f"{last['max_after']:.5g}" in out
    assert f"{last['sum_after']:.5g}" in out
    assert f"{last['moved']:,}" in out


def test_step_waits_for_enter_on_a_terminal_and_nowhere_else(
    says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Keyboard(io.StringIO):
        pressed = 0

        def isatty(self) -> bool:
            return True

        def readline(self, size: int = -1) -> str:
            self.pressed += 1
            return "\n"

    keyboard = Keyboard()
    monkeypatch.setattr(sys, "stdin", keyboard)
    plain = says(PROMPT, "--tile=4")
    assert says(PROMPT, "--tile=4", "--step") == plain
    assert keyboard.pressed == 0, "stdout is no terminal"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert says(PROMPT, "--tile=4", "--step") == plain
    assert keyboard.pressed == 5, "after the last of six there is nothing to wait for"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    assert says(PROMPT, "--tile=4").count("\x1b[1;33m▣\x1b[0m") == 6


def test_where_no_unicode_is_shown_marks_are_ascii(says: Says, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("primer.cli.inspect.unicode", lambda: False)
    assert "# done   / done, with a mask   @ at work   o to come   . skipped" in says(PROMPT, "--tile=4")


def test_a_tall_picture_is_the_row_that_is_worked_on() -> None:
    def step(query: int, key: int) -> Step:
        kind = "masked" if key == query else "full" if key < query else "skipped"
        return Step((query, query + 1), (key, key + 1), kind, query, 0.0, 0.0, 1.0, 1.0, 1.0, 0)

    for rows in (MOST_ROWS, MOST_ROWS + 1):
        steps = [step(t, s) for t in range(rows) for s in range(rows)]
        drawn = picture(steps, steps[2 * rows + 1])
        line = ["full", "now", "later", *["skipped"] * (rows - 3)]
        assert drawn == [line] if rows > MOST_ROWS else (len(drawn) == rows and drawn[2] == line)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--layer=1"], 2, ["this run has the layers 0 to 0", "--layer=0"]),
        (["--layer=-1"], 2, ["this run has the layers 0 to 0"]),
        (["--head=2"], 2, ["has the heads 0 to 1, not 2", "--head=0"]),
        ([PROMPT, "--row=9"], 2, ["the text has the tokens 0 to 8", "--row=8"]),
        (["--tile=-1"], 2, ["a tile has one query and one key or more"]),
        (["--tokens=0"], 2, ["a text one token or more"]),
        (["--step", "--json"], 2, ["--step is for people"]),
        (["--prompt=two times Ω"], 4, ["unknown character 'Ω'", "--prompt"]),
        (["--prompt="], 4, ["the prompt has 0 tokens, and the model reads 1 to 16"]),
        (["--prompt=two times 2 is 4."], 4, ["the prompt has 17 tokens", "a shorter one"]),
        (["--block=4"], 2, ["unknown flag --block"]),
        (["more"], 2, ["one argument too many"]),
    ],
)
def test_mistakes(says: Says, words: list[str], code: int, said: list[str]) -> None:
    err = says(*words, code=code)
    for each in said:
        assert each in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "primer inspect needs a word"),
        (["flahs"], 2, "unknown verb 'flahs'"),
        (["flash"], 2, "primer inspect flash needs a run"),
        (["flash", "nope"], 4, "there are no runs yet"),
    ],
)
def test_mistakes_without_a_run(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["inspect", *words, *([f"--runs-dir={tmp_path}"] if words[1:] else [])]) == code
    err = capsys.readouterr().err
    assert said in err
    assert "try:" in err


def test_where_the_text_is_gone_a_prompt_does(
    trained: primer.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / trained.path.name
    shutil.copytree(trained.path, run)
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    facts["data"]["path"] = str(tmp_path / "nowhere")
    (run / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    config = (run / "config.toml").read_text(encoding="utf-8")
    changed = tmp_path / "changed.txt"
    changed.write_text("two times something else is something else.\n" * 50, encoding="utf-8")
    source = str(trained.config.data.source)
    assert source in config
    (run / "config.toml").write_text(config.replace(source, str(changed)), encoding="utf-8")
    assert main(["inspect", "flash", str(run)]) == 4
    assert '--prompt="a text of your own"' in capsys.readouterr().err
    assert main(["inspect", "flash", str(run), PROMPT]) == 0


def test_a_run_that_translates_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = {**TINY_PAIRS, "train.steps": 3}
    run = primer.train(
        "translation", flags={**flags, "data.source": str(reversed_digits(tmp_path))}, runs_dir=tmp_path
    )
    capsys.readouterr()
    assert main(["inspect", "flash", str(run.path), "--json"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "translates; this looks into models that go on with a text" in err


def test_the_help_of_both_words(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["inspect", "--help"], ["inspect", "flash", "--help"]):
        assert main(words) == 0
        said = capsys.readouterr().out
        assert "usage: primer inspect flash" in said
        assert all(f"  {example}\n" in said for example in EXAMPLES)
