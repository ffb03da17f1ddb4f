import hashlib
import json
import pickle
import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from primer.corpus.text.classifier import Classifier, Interval, LabelScore, train, wilson
from primer.corpus.text.classifier_examples import distinct, divided, line
from primer.corpus.text.classifier_labels import read_labels
from primer.errors import DataError, SurroundingsError, UsageError
from primer.evals import interval

SMALL = {"epochs": 10, "dim": 8, "buckets": 2000}
TEXT = "the old house stood where river and road had met since anyone could remember it quietly"
WORDS = TEXT.split()


def prose(chance):
    return " ".join(chance.choices(WORDS, k=30)).capitalize() + "."


def numbers(chance):
    return "\n".join(
        f"{chance.choice('ABC')}; {chance.randrange(1000)}, {chance.random():.3f}" for _ in range(10)
    )


def task(count, seed=0):
    chance = random.Random(seed)
    return [(prose(chance), "prose") if i % 3 else (numbers(chance), "list") for i in range(count)]


@pytest.fixture
def model(tmp_path):
    trained = train(task(150), tmp_path / "model.bin", **SMALL)
    return trained, Classifier.open(tmp_path / "model.bin")


def test_prose_is_told_from_lists_of_numbers(model):
    trained, classifier = model
    assert (trained.trained, trained.held_out) == (120, 30)
    assert trained.accuracy == Interval(1.0, pytest.approx(0.8865, abs=1e-4), 1.0)
    assert trained.confusion == {"list": {"list": 10, "prose": 0}, "prose": {"list": 0, "prose": 20}}
    assert (trained.majority, trained.majority_share) == ("prose", pytest.approx(2 / 3))
    assert trained.warning is None
    assert classifier.labels == ("list", "prose")
    new = [(classifier.score(text, "prose"), label) for text, label in task(60, seed=9)]
    assert all((score > 0.9) == (label == "prose") for score, label in new)
    assert all(0 <= score <= 1 for score, _ in new)


def test_scores_are_those_of_floret(tmp_path, monkeypatch):
    """What floret's own reader says of floret's own file."""
    import floret

    from primer.corpus.text import classifier as module

    kept = []
    write = module._write_plain
    monkeypatch.setattr(
        module,
        "_write_plain",
        lambda model, out: (kept.append(floret.load_model(str(model))), write(model, out)),
    )
    train(task(60), tmp_path / "model.bin", **SMALL)
    chance = random.Random(4)
    for _ in range(30):
        text = " ".join(chance.choices([*WORDS, "zebra", "é", "5", "漢字"], k=chance.randrange(20)))
        theirs = kept[0].f.predict(line(text) + "\n", -1, 0.0, "strict")
        ours = Classifier.open(tmp_path / "model.bin").scores(text)
        assert ours == [(label.removeprefix("__label__"), min(score, 1.0)) for score, label in theirs]


def test_nothing_is_learned_from_random_labels(tmp_path):
    chance = random.Random(7)
    examples = [(prose(chance), chance.choice(["good", "bad"])) for _ in range(400)]
    trained = train(examples, tmp_path / "model.bin", **SMALL)
    assert trained.accuracy.low < 0.5 < trained.accuracy.high
    assert trained.accuracy.high - trained.accuracy.low > 0.15
    assert trained.warning == (
        f"no better than always saying {trained.majority} ({trained.majority_share:.0%}), as far as can be told"
    )


def test_a_small_lead_over_the_majority_is_no_proof(model):
    trained, _ = model
    assert replace(trained, majority_share=trained.accuracy.low).warning
    assert replace(trained, majority_share=trained.accuracy.low - 1e-9).warning is None


def test_training_is_deterministic(tmp_path):
    def made(examples, seed):
        train(examples, tmp_path / "model.bin", seed=seed, **SMALL)
        return hashlib.sha256((tmp_path / "model.bin").read_bytes()).hexdigest()

    examples = task(60)
    shuffled = random.Random(1).sample(examples, len(examples))
    assert made(examples, 3) == made(examples, 3) == made(shuffled, 3) != made(examples, 4)


def test_one_thread_trains_from_the_seed(tmp_path, monkeypatch):
    import floret

    asked = {}
    ordinary = floret.train_supervised
    monkeypatch.setattr(floret, "train_supervised", lambda *a, **k: (asked.update(k), ordinary(*a, **k))[1])
    train(task(40), tmp_path / "model.bin", seed=3, word_ngrams=3, **SMALL)
    assert (asked["thread"], asked["seed"], asked["wordNgrams"], asked["mode"]) == (1, 3, 3, "fasttext")


def test_precision_and_recall(tmp_path):
    """Half of the lists are called prose: these cannot be told."""
    chance = random.Random(2)
    examples = [(prose(chance), "prose") for _ in range(60)] + [(prose(chance), "list") for _ in range(20)]
    trained = train(
        examples + [(numbers(chance), "list") for _ in range(20)], tmp_path / "model.bin", **SMALL
    )
    rows = trained.confusion
    for label, other in (("prose", "list"), ("list", "prose")):
        score = trained.labels[label]
        assert score.examples == rows[label][label] + rows[label][other] == {"prose": 12, "list": 8}[label]
        assert score.recall == rows[label][label] / score.examples
        assert score.precision == rows[label][label] / (rows[label][label] + rows[other][label])
    right = rows["prose"]["prose"] + rows["list"]["list"]
    assert trained.accuracy == wilson(right, 20)
    assert 0 < right < 20


def test_a_label_that_is_never_said_has_no_precision():
    from primer.corpus.text.classifier import _tested

    trained = _tested(Path("m"), [("good", "bad"), ("good", "bad"), ("bad", "bad")], "good", 12, 0, 0)
    assert trained.labels["good"] == LabelScore(2, None, 0.0)
    assert trained.labels["bad"] == LabelScore(1, 1 / 3, 1.0)


def test_no_text_is_on_both_sides():
    examples = [*task(100), *[(text.upper() + " !", label) for text, label in task(100)]]
    texts, repeated, contradictory = distinct([*examples, *examples[:7]])
    fitted, held = divided(texts)
    assert (len(texts), repeated, contradictory) == (200, 7, 0)
    assert not set(fitted) & set(held)
    assert set(fitted) | set(held) == set(texts)
    assert len(held) == 40
    more = dict(distinct([*examples, *task(40, seed=5)])[0])
    assert len(set(divided(more)[1]) & set(held)) > 30, "most stay where they were"
    assert sorted(divided(dict(reversed(texts.items())))[1]) == sorted(held)


def test_texts_with_several_labels_are_left_out(tmp_path):
    examples = task(40)
    doubtful = [(examples[0][0].lower(), "prose"), (examples[0][0].upper(), "list")]
    trained = train([*examples, *doubtful, examples[1]], tmp_path / "model.bin", **SMALL)
    assert (trained.trained + trained.held_out, trained.contradictory, trained.duplicates) == (39, 3, 1)


def test_wilsons_interval_is_that_of_the_evaluations():
    for right, count in ((0, 5), (3, 7), (20, 20), (811, 2000)):
        other = interval.wilson(right, count)
        ours = wilson(right, count)
        assert (ours.value, ours.low, ours.high) == pytest.approx(
            (other.value, other.low, other.high), abs=1e-12
        )


@settings(max_examples=200)
@given(st.text(st.one_of(st.characters(), st.sampled_from("_ \n\0\x0b\x85\u2028</s>,.5İ\ud800"))))
@example("__label__good\n</s>")
def test_a_line_is_one_line_without_labels(text):
    simple = line(text)
    simple.encode()
    assert len(simple.splitlines()) <= 1
    assert "__label__" not in simple
    assert "</s>" not in simple
    assert simple.split() == (simple.split(" ") if simple else [])
    assert line(simple) == simple


def test_a_text_cannot_label_itself(tmp_path):
    examples = [
        (f"__label__list {text}", label) if label == "prose" else (text, label) for text, label in task(60)
    ]
    trained = train(examples, tmp_path / "model.bin", **SMALL)
    assert Classifier.open(tmp_path / "model.bin").labels == ("list", "prose")
    assert trained.accuracy.value == 1.0


@pytest.mark.parametrize(
    "examples",
    [
        [(f"text {i} {'x' * i}", "good") for i in range(50)],
        task(19),
        [*task(30), ("", "prose")],
        [*task(30), (" \n\0", "prose")],
        [*task(30), ("a text", "two words")],
        [*task(30), ("a text", "")],
        [*task(30), ("a text", "alone")],
        task(10) * 5,
        [],
    ],
)
def test_bad_examples_are_refused(tmp_path, examples):
    with pytest.raises(DataError):
        train(examples, tmp_path / "model.bin")
    assert not (tmp_path / "model.bin").exists()


def test_impossible_settings_are_refused(tmp_path):
    for wrong in ({"epochs": 0}, {"lr": -1.0}, {"lr": float("nan")}, {"dim": 0}, {"lr": 1e30}):
        with pytest.raises(UsageError):
            train(task(40), tmp_path / "model.bin", **{**SMALL, **wrong})
    assert not (tmp_path / "model.bin").exists()


def test_a_file_that_was_cut_off_is_refused(model, tmp_path):
    _, classifier = model
    raw = classifier.path.read_bytes()
    for wrong in (b"", b"no model", raw[:60], raw[: len(raw) // 2], raw[:-4], b"x" + raw):
        (tmp_path / "wrong.bin").write_bytes(wrong)
        with pytest.raises(DataError):
            Classifier.open(tmp_path / "wrong.bin")
    with pytest.raises(DataError):
        Classifier.open(tmp_path / "none.bin")


def test_an_unknown_label_names_the_nearest(model):
    with pytest.raises(UsageError, match="prose"):
        model[1].score("text", "pross")


def test_a_classifier_can_be_sent_to_a_worker(model):
    again = pickle.loads(pickle.dumps(model[1]))
    assert again.score("the old house", "prose") == model[1].score("the old house", "prose")


@pytest.mark.parametrize(("version", "hint"), [((3, 12), "gpt-primer"), ((3, 13), "3.12")])
def test_without_floret_it_says_what_to_do(tmp_path, monkeypatch, version, hint):
    monkeypatch.setitem(sys.modules, "floret", None)
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(SurroundingsError) as caught:
        train(task(30), tmp_path / "model.bin")
    assert "floret" in caught.value.cause
    assert hint in caught.value.hint


def test_labels_are_read_from_lines_and_folders(tmp_path):
    expected = [("One.\n\nTwo.\n", "bad"), ("Three", "good"), ("Four", "good")]
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in expected))
    assert list(read_labels(file)) == expected
    for name, content in {
        "all/bad/1.txt": expected[0][0],
        "all/good/a.txt": "Three",
        "all/good/b.jsonl": '{"text": "Four"}',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert list(read_labels(tmp_path / "all")) == expected
    folders = f"poor={tmp_path}/all/bad,fine={tmp_path}/all/good"
    assert [label for _, label in read_labels(folders)] == ["poor", "fine", "fine"]


def test_a_long_text_stays_one_example(tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "long.txt").write_text("word " * 300_000)
    ((text, label),) = read_labels(tmp_path)
    assert (len(text), label) == (1_500_000, "good")


def test_what_holds_no_labels_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.jsonl").write_text('{"text": "x"}')
    (tmp_path / "empty").mkdir()
    for spec in ("a.txt", "b.jsonl", "none", "empty"):
        with pytest.raises(DataError):
            list(read_labels(tmp_path / spec))
    for spec in ("good=", f"good={tmp_path},good={tmp_path}"):
        with pytest.raises(UsageError):
            list(read_labels(spec))
