"""From measurements to reasons: each threshold at its edge, the first broken rule, and what is turned off."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest

from primer.corpus.refine import select
from primer.corpus.refine.recipe import Recipe, resolve, shipped
from primer.corpus.refine.select import SETTINGS, STAGES, Limit, decide, limits
from primer.corpus.text.rules import RULES

KINDS = {name: pa.string() for name in select.SAID.values()} | {
    "languages": pa.list_(pa.string()),
    "scores": pa.list_(pa.float32()),
    "items": pa.list_(pa.string()),
}
ENGLISH: dict[str, Any] = {"languages": ["en"], "scores": [0.9]}
FINEWEB = limits(resolve("fineweb").config)
NUMBERS = [limit for limit in FINEWEB if limit.setting not in ("c4.curly_bracket", "c4.lorem_ipsum")]


def recipe(**flags: object) -> Recipe:
    return resolve("fineweb", {key.replace("__", "."): value for key, value in flags.items()}).config


def fates(config: Recipe, *rows: dict[str, Any]) -> list[str | None]:
    """What becomes of rows of which only so much was measured; the stage belongs to the reason."""
    names = list(dict.fromkeys([*select.columns(config), *(name for row in rows for name in row)]))
    table = pa.table(
        {name: pa.array([row.get(name) for row in rows], KINDS.get(name, pa.float64())) for name in names}
    )
    stages, reasons = decide(table, config)
    assert all((stage is None) == (reason is None) for stage, reason in zip(stages, reasons, strict=True))
    assert all(stage in (None, *STAGES) for stage in stages)
    return reasons


@pytest.mark.parametrize("limit", FINEWEB, ids=[f"{each.stage}-{each.reason}" for each in FINEWEB])
def test_a_value_at_the_threshold_stands_and_one_beyond_it_is_dropped(limit: Limit) -> None:
    beyond = math.nextafter(limit.threshold, math.inf if limit.above else -math.inf)
    within = math.nextafter(limit.threshold, -math.inf if limit.above else math.inf)
    values = (limit.threshold, within, beyond, None, math.nan)
    rows = [{**ENGLISH, limit.column: value} for value in values]
    assert fates(recipe(), *rows) == [None, None, limit.reason, None, None]


@pytest.mark.parametrize("limit", NUMBERS, ids=[f"{each.stage}-{each.reason}" for each in NUMBERS])
def test_every_threshold_is_the_recipes_own(limit: Limit) -> None:
    """Moved, turned off by 0, turned off with its stage: this limit, and no other."""
    if not limit.setting:
        assert limit.reason == "empty"
        return
    others = [each for each in FINEWEB if each.setting != limit.setting]
    value: Any = 3 if isinstance(_value(limit.setting), int) else 0.125
    moved = limits(recipe(**{limit.setting: value}))
    assert [each for each in moved if each.setting == limit.setting] == [
        Limit(limit.stage, limit.reason, limit.column, limit.above, value, limit.setting)
    ]
    assert [each for each in moved if each.setting != limit.setting] == others
    assert limits(recipe(**{limit.setting: 0})) == others
    assert limits(recipe(**{f"{limit.stage}.on": False})) == [
        each for each in FINEWEB if each.stage != limit.stage
    ]


def _value(setting: str) -> Any:
    table, _, name = setting.partition(".")
    return getattr(getattr(resolve("fineweb").config, table), name)


def test_every_rule_is_applied_in_datatroves_order_and_has_a_setting() -> None:
    assert [each.reason for each in FINEWEB] == [rule.reason for rule in RULES]
    assert {each.reason for each in FINEWEB if not each.setting} <= {"empty"}
    assert {each.reason for each in FINEWEB if each.setting} == set(SETTINGS)
    assert len({each.setting for each in FINEWEB if each.setting}) == len(SETTINGS)
    assert [each.stage for each in FINEWEB] == sorted((each.stage for each in FINEWEB), key=STAGES.index)


def test_the_first_rule_that_is_broken_drops() -> None:
    """A page that every rule has something against; what the first has against it is mended, and so on."""
    config = recipe(classifier__model="m.bin", decontaminate__files=("e.jsonl",))
    row: dict[str, Any] = {
        "record_reason": "empty",
        "url_reason": "domain",
        "extract_reason": "no_text",
        "languages": ["de", "en"],
        "scores": [0.7, 0.3],
    }
    expected = ["empty", "domain", "no_text", "language_de"]
    mended: list[dict[str, Any]] = [
        {each: None} for each in ("record_reason", "url_reason", "extract_reason")
    ]
    mended.append(ENGLISH)
    for limit in FINEWEB:
        if limit.column in row:  # two limits on one column, of which one is broken
            continue
        row[limit.column] = limit.threshold + (1 if limit.above else -1)
        expected.append(limit.reason)
        mended.append({limit.column: None})
    row |= {"good": 0.4, "items": ["e.jsonl:1"]}
    expected += ["low_score", "contaminated"]
    mended += [{"good": 0.5}, {"items": []}]
    found = []
    for change in mended:
        found += fates(config, row)
        row = {**row, **change}
    assert found == expected
    assert fates(config, row) == [None]
    assert len(found) > 30


@pytest.mark.parametrize(
    ("keep", "threshold", "names", "scores", "fate"),
    [
        (("en",), 0.65, ["en"], [0.66], None),
        (("en",), 0.5, ["en"], [0.5], "language_en"),
        (("en",), 0.65, ["de", "en"], [0.3, 0.2], "language_de"),
        (("en", "de"), 0.25, ["fr", "de"], [0.5, 0.3], None),
        (("en",), 0.65, [], [], "language_unknown"),
        (("en",), 0.65, None, None, None),
        ((), 0.0, ["fr"], [0.02], None),
        ((), 0.0, [], [], None),
        ((), 0.65, ["fr"], [0.7], None),
        ((), 0.65, ["fr", "de"], [0.6, 0.4], "language_fr"),
        (("en",), 0.0, ["fr", "en"], [0.9, 0.02], None),
        (("en",), 0.0, ["fr"], [0.9], "language_fr"),
    ],
)
def test_languages(
    keep: tuple[str, ...], threshold: float, names: list[str], scores: list[float], fate: str | None
) -> None:
    config = recipe(language__keep=keep, language__threshold=threshold)
    assert fates(config, {"languages": names, "scores": scores}) == [fate]


def test_a_classifier_drops_what_it_did_not_find_good_enough() -> None:
    rows = [{**ENGLISH, "good": value} for value in (0.69, 0.7, 0.71, None)]
    config = recipe(classifier__model="m.bin", classifier__threshold=0.7)
    assert fates(config, *rows) == ["low_score", None, None, "low_score"]
    assert fates(recipe(), *rows) == [None] * 4


@pytest.mark.parametrize(("action", "fate"), [("drop", "contaminated"), ("mask", None), ("report", None)])
def test_items_of_evaluations_drop_only_where_they_shall(action: str, fate: str | None) -> None:
    rows = [{**ENGLISH, "items": items} for items in (["e:1"], [], None)]
    assert fates(recipe(decontaminate__action=action), *rows) == [fate, None, None]


def test_whatever_decides_is_in_what_a_decision_is_known_by() -> None:
    """Otherwise a run would take decisions by other thresholds for its own."""
    before = select.settings(recipe())
    changes: list[dict[str, Any]] = [{name: type(_value(name))(0)} for name in SETTINGS.values()]
    changes += [{f"{stage}.on": False} for stage in ("repetition", "quality", "c4", "fineweb")]
    changes += [
        {"language.keep": ("de",)},
        {"language.threshold": 0.5},
        {"classifier.model": "m.bin"},
        {"decontaminate.action": "report"},
    ]
    for change in changes:
        assert select.settings(recipe(**change)) != before
    with_model = {"classifier.model": "m.bin"}
    assert select.settings(recipe(**with_model)) != select.settings(
        recipe(**with_model, **{"classifier.threshold": 0.6})
    )
    assert select.settings(recipe(**{"pii.emails": False, "tokens.vocabulary": 300})) == before


def test_no_row_is_lost_and_none_is_decided_by_another() -> None:
    rows: list[dict[str, Any]] = [
        ENGLISH,
        {"record_reason": "empty"},
        {"languages": ["de"], "scores": [0.9]},
        ENGLISH,
    ]
    assert fates(recipe(), *rows) == [None, "empty", "language_de", None]
    assert fates(recipe(), *reversed(rows)) == [None, "language_de", "empty", None]
    assert fates(recipe()) == []
    assert all(fates(resolve(name).config, ENGLISH) == [None] for name in shipped() if "edu" not in name)
