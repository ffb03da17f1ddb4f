import math
import tomllib
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primer.config import dotted, from_dict, leaves, merge, nested, to_dict, to_toml
from primer.errors import UsageError
from primer.recipes.config import RunConfig


@dataclass(frozen=True)
class Inner:
    orders: tuple[int, ...] = ()
    pair: tuple[float, float] = (0.9, 0.95)
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    size: int = 3
    maybe: bool | None = None
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Whole:
    name: str = "x"
    rate: float = 1.0
    on: bool = True
    kind: Literal["left", "right"] = "left"
    part: Part = field(default_factory=Part)


finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(codec="utf-8"))
wholes = st.builds(
    Whole,
    name=text,
    rate=finite,
    on=st.booleans(),
    kind=st.sampled_from(["left", "right"]),
    part=st.builds(
        Part,
        size=st.integers(-(1 << 63), (1 << 63) - 1),
        maybe=st.sampled_from([None, True, False]),
        inner=st.builds(
            Inner,
            orders=st.lists(st.integers(-(1 << 63), (1 << 63) - 1)).map(tuple),
            pair=st.tuples(finite, finite),
            names=st.lists(text).map(tuple),
        ),
    ),
)


@given(wholes)
def test_every_config_survives_toml_and_dicts(config: Whole) -> None:
    assert from_dict(Whole, tomllib.loads(to_toml(config))) == config
    assert from_dict(Whole, to_dict(config)) == config
    assert from_dict(Whole, dotted(to_dict(config))) == config


@given(wholes)
def test_remarks_do_not_change_what_is_read(config: Whole) -> None:
    remarked = to_toml(config, comments=dict.fromkeys(leaves(Whole), "because"))
    assert tomllib.loads(remarked) == tomllib.loads(to_toml(config))
    assert remarked.count("# because") >= 7


def test_toml_reads_like_a_person_wrote_it() -> None:
    assert to_toml(Whole(name='say "hi"\n')) == (
        'name = "say \\"hi\\"\\n"\nrate = 1.0\non = true\nkind = "left"\n\n[part]\nsize = 3\n'
        "\n[part.inner]\norders = []\npair = [0.9, 0.95]\nnames = []\n"
    )


def test_the_run_config_survives_toml() -> None:
    assert from_dict(RunConfig, tomllib.loads(to_toml(RunConfig()))) == RunConfig()


def test_half_a_character_is_refused() -> None:
    with pytest.raises(UsageError, match="name is not valid Unicode"):
        to_toml(Whole(name="\udcff"))


@pytest.mark.parametrize(
    ("mapping", "cause", "hint"),
    [
        ({"nmae": "y"}, "unknown key nmae", "name"),
        ({"part": {"sise": 1}}, "unknown key part.sise", "part.size"),
        ({"part": {"inner": {"order": []}}}, "unknown key part.inner.order", "part.inner.orders"),
        ({"size": 4}, "unknown key size", "part.size"),
        ({"parts": {"size": 1}}, "unknown key parts", "part"),
        ({"part": 3}, "part is a table of values, got 3", "one of part.size"),
        ({"part": {"size": "four"}}, "part.size must be a whole number, got 'four'", None),
        ({"part": {"size": 4.0}}, "part.size must be a whole number, got 4.0", None),
        ({"part": {"size": True}}, "part.size must be a whole number, got true", None),
        ({"rate": "fast"}, "rate must be a number, got 'fast'", None),
        ({"rate": True}, "rate must be a number, got true", None),
        ({"rate": math.nan}, "rate must be a finite number, got nan", None),
        ({"rate": math.inf}, "rate must be a finite number, got inf", None),
        ({"rate": 10**400}, "rate must be a finite number", None),
        ({"name": 3}, "name must be a text, got 3", None),
        ({"name": None}, "name must be a text, got None", None),
        ({"on": 1}, "on must be true or false, got 1", None),
        ({"kind": "rihgt"}, "kind must be one of left, right, got 'rihgt'", "right"),
        ({"kind": ["left"]}, "kind must be one of left, right", None),
        ({"part": {"maybe": "no"}}, "part.maybe must be true or false, got 'no'", None),
        ({"part": {"inner": {"pair": [0.9]}}}, "part.inner.pair must be a list of 2, each a number", None),
        (
            {"part": {"inner": {"orders": [2, "3"]}}},
            "part.inner.orders must be a whole number, got '3'",
            None,
        ),
        ({"part": {"inner": {"orders": 2}}}, "part.inner.orders must be a list, each a whole number", None),
        ({"name": {"deep": 1}}, "name must be a text", None),
    ],
)
def test_mistakes_are_named(mapping: dict, cause: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        from_dict(Whole, mapping, where="my.toml")
    assert caught.value.cause.startswith(cause)
    assert caught.value.where == "my.toml"
    if hint:
        assert caught.value.hint.startswith(hint)


def test_a_table_is_no_value() -> None:
    with pytest.raises(UsageError, match="part is both a value and a table"):
        from_dict(Whole, {"part": 3, "part.size": 4})


def test_a_whole_number_is_a_number() -> None:
    rate = from_dict(Whole, {"rate": 2}).rate
    assert rate == 2.0
    assert isinstance(rate, float)


def test_layers_and_origins() -> None:
    resolved = merge(
        Whole,
        [
            ("recipe", {"name": "r", "part": {"size": 5, "inner": {"orders": [2]}}}),
            ("file", {"part": {"size": 6}, "on": False}),
            ("flag", {"part.size": 7}),
        ],
    )
    assert resolved.config == Whole(name="r", on=False, part=Part(7, None, Inner((2,))))
    assert resolved.origins == {
        "name": "recipe",
        "rate": "default",
        "on": "file",
        "kind": "default",
        "part.size": "flag",
        "part.maybe": "default",
        "part.inner.orders": "recipe",
        "part.inner.pair": "default",
        "part.inner.names": "default",
    }


def test_a_layer_can_unset_what_another_set() -> None:
    resolved = merge(Whole, [("recipe", {"part.maybe": True}), ("flag", {"part.maybe": None})])
    assert resolved.config.part.maybe is None
    assert resolved.origins["part.maybe"] == "flag"


def test_an_error_names_its_layer() -> None:
    with pytest.raises(UsageError) as caught:
        merge(Whole, [("recipe x", {"part.size": 3}), ("my.toml", {"part": {"size": []}})])
    assert caught.value.where == "my.toml"


def test_what_the_config_refuses_is_refused() -> None:
    with pytest.raises(UsageError, match="does not divide"):
        from_dict(RunConfig, {"model": {"d_model": 100, "n_heads": 3}})
    with pytest.raises(UsageError, match="longer than the run") as caught:
        from_dict(RunConfig, {"train.steps": 10, "schedule.warmup": 20})
    assert caught.value.where is None
    with pytest.raises(UsageError) as caught:
        merge(RunConfig, [("my.toml", {"schedule": {"warmup": 20}}), ("flag", {"train.steps": 10})])
    assert caught.value.where == "schedule.warmup from my.toml, train.steps from flag"


keys = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(
    st.integers(-(1 << 63), (1 << 63) - 1),
    lambda inner: st.dictionaries(keys, inner, min_size=1),
    max_leaves=8,
)


@given(st.dictionaries(keys, trees))
def test_dotted_and_nested_are_inverse(tree: dict) -> None:
    assert nested(dotted(tree)) == tree
    assert nested(tree) == tree
