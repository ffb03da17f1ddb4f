"""Files of questions: read as they stand, refused with the line where something is wrong."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primer.errors import DataError, SurroundingsError, UsageError
from primer.evals import questions, tasks
from primer.evals.figures import GPT2_124M
from primer.evals.tasks import TASKS, find_task, is_task, read_task

CHOICES: dict[str, Any] = {"query": "Two times two is", "choices": ["four", "five"], "gold": 0}
SCHEMA: dict[str, Any] = {"context_options": ["The cup", "The jug"], "continuation": "is full.", "gold": 1}
CLOZE: dict[str, Any] = {"context": "Two times two is", "continuation": "four"}
HELLASWAG: dict[str, Any] = {
    "ind": 24, "activity_label": "Roof work", "ctx_a": "A man [substeps] sits.", "ctx_b": "he THEN",
    "ctx": "unused", "split": "val", "split_type": "indomain", "label": 1,
    "endings": ["falls. [title] Up", "[step] stands", "sings [x] a [y] song", "  sleeps  "], "source_id": "a",
}  # fmt: skip


def write(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_each_layout_becomes_candidates(tmp_path: Path) -> None:
    task = read_task(write(tmp_path / "a.jsonl", CHOICES, {**CHOICES, "gold": 1}))
    assert (task.name, task.kind, len(task.questions)) == ("a", "multiple_choice", 2)
    assert task.questions[0].candidates == (("Two times two is ", "four"), ("Two times two is ", "five"))
    assert [question.gold for question in task.questions] == [0, 1]
    (question,) = read_task(write(tmp_path / "b.jsonl", SCHEMA)).questions
    assert question.candidates == (("The cup ", "is full."), ("The jug ", "is full."))
    assert question.gold == 1
    task = read_task(write(tmp_path / "c.jsonl", CLOZE))
    assert task.kind == "cloze"
    assert task.questions[0].candidates == (("Two times two is ", "four"),)
    assert task.questions[0].solved == "Two times two is four"


def test_a_task_has_its_own_way_from_the_question_to_the_answer(tmp_path: Path) -> None:
    """What is known by name: the gauntlet's delimiters, behind a query that may end in a new line (PIQA's does)."""
    record = {**CHOICES, "query": "Question: why?\n"}
    answered = dict.fromkeys(("piqa", "arc_easy", "arc_challenge"), "Question: why?\nAnswer: ")
    for name, before in {**answered, "mine": "Question: why? ", "copa": "Question: why? "}.items():
        (question,) = read_task(write(tmp_path / f"{name}.jsonl", record)).questions
        assert question.candidates[0][0] == before


def test_hellaswag_as_its_authors_wrote_it(tmp_path: Path) -> None:
    """By hand, with the harness' rules: [title] ends a sentence, other brackets go, double spaces become one."""
    (question,) = read_task(write(tmp_path / "hellaswag_val.jsonl", HELLASWAG)).questions
    assert {context for context, _ in question.candidates} == {"Roof work: A man sits. He then "}
    endings = [ending for _, ending in question.candidates]
    assert endings == ["falls.. Up", " stands", "sings a song", "sleeps"]
    assert question.gold == 1
    copy = {**HELLASWAG, "label": "3", "ctx_b": ""}  # as the copy on Hugging Face has it
    task = read_task(write(tmp_path / "other.jsonl", copy))
    assert task.questions[0].gold == 3
    assert task.questions[0].candidates[0][0] == "Roof work: A man sits. "
    assert read_task(tmp_path / "hellaswag_val.jsonl").name == "hellaswag"
    copy = {key: value for key, value in HELLASWAG.items() if key not in ("ctx_a", "ctx_b")}
    (question,) = read_task(write(tmp_path / "whole.jsonl", {**copy, "endings": ["[step]", "a"]})).questions
    assert question.candidates == (("Roof work: unused ", ""), ("Roof work: unused ", "a"))


@settings(deadline=None)
@given(st.text(alphabet="ab [].\n", max_size=30))
def test_brackets_are_taken_out_as_the_harness_does_it(text: str) -> None:
    """Its three steps one after another, on a list of characters instead of by a pattern."""
    expected = text.strip().replace(" [title]", ". ")
    while True:
        opened = expected.find("[")
        while opened >= 0 and (
            "]" not in expected[opened:] or "\n" in expected[opened : expected.index("]", opened)]
        ):
            opened = expected.find("[", opened + 1)
        if opened < 0:
            break
        expected = expected[:opened] + "\0" + expected[expected.index("]", opened) + 1 :]
    assert questions._without_brackets(text) == expected.replace("\0", "").replace("  ", " ")


BROKEN: dict[str, tuple[Any, str]] = {
    "no JSON": (b'{"query": \n', "this line is not JSON"),
    "a list": ([1], "this line is no JSON object"),
    "not UTF-8": (json.dumps(CHOICES).encode()[:12] + b"\xe9" + json.dumps(CHOICES).encode()[12:], "byte 12 of"),
    "deep": (b"[" * 100_000, "not JSON"),
    "no query": ({key: CHOICES[key] for key in ("choices", "gold")}, 'the key "query" is missing'),
    "no choices": ({key: CHOICES[key] for key in ("query", "gold")}, 'the key "choices" is missing'),
    "no gold": ({key: CHOICES[key] for key in ("query", "choices")}, 'the key "gold" is missing'),
    "another layout": (CLOZE, 'the key "query" is missing'),
    "gold too large": ({**CHOICES, "gold": 2}, '"gold" is 2, and there are 2 to choose from'),
    "gold negative": ({**CHOICES, "gold": -1}, '"gold" is -1'),
    "gold true": ({**CHOICES, "gold": True}, '"gold" is no whole number'),
    "gold a fraction": ({**CHOICES, "gold": 0.0}, '"gold" is no whole number'),
    "gold a word": ({**CHOICES, "gold": "A"}, '"gold" is no whole number'),
    "one choice": ({**CHOICES, "choices": ["four"]}, '"choices" is no list of two or more'),
    "choices a word": ({**CHOICES, "choices": "four"}, '"choices" is no list of two or more'),
    "an empty choice": ({**CHOICES, "choices": ["four", ""]}, '"choices" number 1 is empty'),
    "a choice that is no text": ({**CHOICES, "choices": ["four", 5]}, '"choices" number 1 is no text'),
    "query no text": ({**CHOICES, "query": None}, '"query" is no text'),
    "half a character": ({**CHOICES, "query": "a\ud800"}, "half a surrogate pair at character 1"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "cause"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_line_is_named(line: Any, cause: str, tmp_path: Path) -> None:
    file = write(tmp_path / "task.jsonl", CHOICES)
    raw = line if isinstance(line, bytes) else json.dumps(line).encode()
    file.write_bytes(file.read_bytes() + b"\n" + raw + b"\n" + json.dumps(CHOICES).encode())
    with pytest.raises(DataError) as caught:
        read_task(file)
    assert cause in caught.value.cause
    assert caught.value.where == f"{file}, line 3"
    assert caught.value.hint


def anything() -> st.SearchStrategy[Any]:
    """What JSON can hold."""
    plain = st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=5)
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner)
    )


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_whatever_stands_in_a_line_it_is_a_question_or_its_line_is_named(data: st.DataObject) -> None:
    """One to three fields of a good line replaced by anything, or bytes of it by others."""
    record = dict(data.draw(st.sampled_from([CHOICES, SCHEMA, CLOZE, HELLASWAG])))
    for key in data.draw(st.lists(st.sampled_from(sorted(record)), max_size=3)):
        record[key] = data.draw(anything())
    raw = bytearray(json.dumps(record).encode())
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=2)):
        raw[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "task.jsonl")
        file.write_bytes(raw)
        is_task(file)
        found, refusal = (), None
        try:
            found = read_task(file).questions
        except DataError as error:
            refusal = error
    assert found or refusal is not None
    if refusal is not None:
        assert refusal.where in (f"{file}, line 1", f"{file}, line 2", str(file))
    for question in found:
        assert 0 <= question.gold < len(question.candidates)
        for context, continuation in question.candidates:
            assert f"{context}{continuation}".encode()


@given(st.lists(st.text(min_size=1), min_size=2, max_size=5), st.text(), st.data())
def test_a_good_line_is_read_as_it_was_written(choices: list[str], query: str, data: st.DataObject) -> None:
    gold = data.draw(st.integers(0, len(choices) - 1))
    line = questions.Line({"query": query, "choices": choices, "gold": gold}, "here", "|")
    question = questions.LAYOUTS["choices"].read(line)
    assert [continuation for _, continuation in question.candidates] == choices
    assert {context for context, _ in question.candidates} == {query.rstrip() + "|"}
    assert question.gold == gold


def test_other_layouts_are_checked_too(tmp_path: Path) -> None:
    for record, cause in (
        ({**SCHEMA, "continuation": " "}, '"continuation" is empty'),
        ({**CLOZE, "continuation": ""}, '"continuation" is empty'),
        ({**HELLASWAG, "ctx_b": 1}, '"ctx_b" is no text'),
        ({**HELLASWAG, "label": ""}, '"label" is no whole number'),
        ({"text": "a"}, "the keys of no task"),
    ):
        with pytest.raises(DataError) as caught:
            read_task(write(tmp_path / "task.jsonl", record))
        assert cause in caught.value.cause
        assert caught.value.where == f"{tmp_path / 'task.jsonl'}, line 1"


def test_files_that_hold_no_task(tmp_path: Path) -> None:
    file = tmp_path / "task.jsonl"
    for content in (b"", b"\n \n", b"\xef\xbb\xbf"):
        file.write_bytes(content)
        with pytest.raises(DataError, match="without a line"):
            read_task(file)
        assert not is_task(file)
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(CLOZE).encode())
    assert read_task(file).questions[0].gold == 0
    with pytest.raises(DataError, match="folder"):
        read_task(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_task(tmp_path / "missing.jsonl")


def test_a_task_is_told_from_a_text(tmp_path: Path) -> None:
    texts: list[Any] = [{"text": "a"}, {"text": "a", "query": "b", "gold": 0}, {"continuation": "b"}, [1], {}]
    for record in (CHOICES, SCHEMA, CLOZE, HELLASWAG, {"query": "a", "gold": 0}):
        assert is_task(write(tmp_path / "a.jsonl", record, "broken"))
    for record in texts:
        assert not is_task(write(tmp_path / "a.jsonl", record))
    assert not is_task(write(tmp_path / "a.txt", CHOICES))
    assert not is_task(tmp_path)
    assert not is_task("x" * 5000)
    assert all(is_task(name) for name in TASKS)
    assert not is_task("arc")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    data, cache = tmp_path / "data", tmp_path / "cache"
    monkeypatch.setenv("PRIMER_DATA", str(data))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    (data / "eval").mkdir(parents=True)
    (cache / "primer" / "eval").mkdir(parents=True)
    return data / "eval", cache / "primer" / "eval"


def test_tasks_are_looked_for_in_two_places(places: tuple[Path, Path]) -> None:
    data, cache = places
    with pytest.raises(SurroundingsError, match="copa is not on this machine") as caught:
        find_task("copa")
    assert str(cache) in str(caught.value.hint)
    write(cache / "copa.jsonl", CHOICES)
    assert find_task("copa") == cache / "copa.jsonl"
    write(data / "copa.jsonl", CHOICES)
    assert find_task("copa") == data / "copa.jsonl"
    assert not is_task("my_own")
    write(data / "my_own.jsonl", CHOICES)
    assert is_task("my_own")
    assert find_task("../eval/copa") == Path("../eval/copa"), "a path, and no name"


def test_hellaswag_is_fetched_only_with_its_checksum(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cache = places
    wrong = write(data / "hellaswag_val.jsonl", HELLASWAG)
    with pytest.raises(DataError, match="SHA-256 differs"):
        find_task("hellaswag")
    wrong.unlink()
    asked: list[str] = []

    def refuse(url: str, timeout: float) -> None:
        asked.append(url)
        raise ConnectionError("no network in tests")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(SurroundingsError) as caught:
        read_task("hellaswag")
    assert asked == [tasks.HELLASWAG.url]
    assert str(cache / "hellaswag_val.jsonl") in str(caught.value.hint)
    write(data / "hellaswag.jsonl", CHOICES)  # the gauntlet's copy
    assert read_task("hellaswag").questions[0].candidates[0][0] == "Two times two is "


def test_the_first_so_many(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", *({**CHOICES, "query": f"{n}:"} for n in range(9)))
    assert [q.candidates[0][0] for q in read_task(file, limit=3).questions] == ["0: ", "1: ", "2: "]
    assert len(read_task(file, limit=99).questions) == 9
    refused: list[Callable[[], Any]] = [
        lambda: read_task(file, limit=0),
        lambda: read_task(file, shots=-1),
        lambda: read_task(file, shots=9),
    ]
    for each in refused:
        with pytest.raises(UsageError):
            each()


def test_examples_are_other_questions_with_their_right_answers(tmp_path: Path) -> None:
    records = [{"query": f"{n}:", "choices": [f"right {n}", f"wrong {n}"], "gold": 0} for n in range(6)]
    file = write(tmp_path / "a.jsonl", *records)
    task = read_task(file, shots=3, seed=1)
    assert task.shots == 3
    drawn = []
    for number, question in enumerate(task.questions):
        ((context, first), (same, second)) = question.candidates
        assert (first, second, same) == (f"right {number}", f"wrong {number}", context)
        *examples, own = context.split("\n\n")
        assert own == f"{number}: "
        shown = [int(example.partition(":")[0]) for example in examples]
        assert examples == [f"{n}: right {n}" for n in shown]
        assert len(set(shown) - {number}) == 3
        drawn.append(tuple(n - (n > number) for n in shown))
    assert len(set(drawn)) > 1, "each question has a draw of its own"
    assert read_task(file, shots=3, seed=1) == task
    assert read_task(file, shots=3, seed=2) != task
    assert read_task(file, shots=3, seed=1, limit=2).questions == task.questions[:2]
    all_others = read_task(file, shots=5).questions[2].candidates[0][0]
    assert all(f"{n}: right {n}\n\n" in all_others for n in range(6) if n != 2)


COUNTS = {
    "arc_challenge": (1172, 4, "Question: "), "arc_easy": (2376, 4, "Question: "), "copa": (100, 2, ""),
    "lambada_openai": (5153, 1, ""), "openbook_qa": (500, 4, ""), "piqa": (1838, 2, "Question: "),
    "winograd_wsc": (273, 2, ""), "winogrande": (1267, 2, ""), "hellaswag_small": (4, 4, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_the_real_files(name: str, real_data: Path) -> None:
    task = read_task(name)
    count, candidates, beginning = COUNTS[name]
    assert len(task.questions) == count
    assert all(len(question.candidates) == candidates for question in task.questions)
    ends = "\nAnswer: " if beginning else " "
    for question in task.questions:
        for context, _ in question.candidates:
            assert context.startswith(beginning)
            assert context.endswith(ends)
            assert not context.removesuffix(ends)[-1].isspace()


def test_every_figure_is_of_a_task_that_can_be_asked_for() -> None:
    assert {figure.task for figure in GPT2_124M} <= set(TASKS)
    for figure in GPT2_124M:
        assert figure.source
        assert all(
            0 < share < 1 for share in (figure.accuracy, figure.by_character, figure.by_token) if share
        )
