from dataclasses import dataclass, field
from typing import Literal

import pytest

from primer.cli.flags import Verb, parse
from primer.errors import UsageError


@dataclass(frozen=True)
class Inner:
    orders: tuple[int, ...] = ()
    pair: tuple[float, float] = (0.9, 0.95)
    kinds: tuple[Literal["a", "b"], ...] = ()
    on_top: bool = True
    maybe: bool | None = None


@dataclass(frozen=True)
class Config:
    steps: int = 10
    lr: float = 0.1
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True)
class Options:
    json: bool = False
    name: str | None = None
    stop: tuple[str, ...] = ()


VERB = Verb("walk", "[WHERE]", "About.", ("a", "b", "c"), Options, (Config,), most=2)


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("--steps=3", {"steps": 3}),
        ("--steps 3", {"steps": 3}),
        ("--steps 3 --steps=4", {"steps": 4}),
        ("--lr -1", {"lr": -1.0}),
        ("--lr=1e-3", {"lr": 0.001}),
        ("--inner.on-top", {"inner.on_top": True}),
        ("--inner.on_top=false", {"inner.on_top": False}),
        ("--inner.on-top False", {"inner.on_top": False}),
        ("--inner.no-on-top", {"inner.on_top": False}),
        ("--inner.maybe=none", {"inner.maybe": None}),
        ("--inner.maybe true", {"inner.maybe": True}),
        ("--inner.pair=0.5,0.6", {"inner.pair": (0.5, 0.6)}),
        ("--inner.pair 0.5 0.6", {"inner.pair": (0.5, 0.6)}),
        ("--inner.orders=2,3", {"inner.orders": (2, 3)}),
        ("--inner.orders 2 3 4", {"inner.orders": (2, 3, 4)}),
        ("--inner.orders=2 --inner.orders=3", {"inner.orders": (2, 3)}),
        ("--inner.orders=", {"inner.orders": ()}),
        ("--inner.kinds a b", {"inner.kinds": ("a", "b")}),
    ],
)
def test_flags_are_read(line: str, flags: dict) -> None:
    arguments = parse(VERB, line.split(" "))
    assert arguments.flags == flags
    assert arguments.values == []
    assert arguments.options == Options()


@pytest.mark.parametrize(
    ("words", "values", "options"),
    [
        (["here"], ["here"], Options()),
        (["--json", "here"], ["here"], Options(json=True)),
        (["here", "--no-json"], ["here"], Options()),
        (["--inner.orders", "2", "3", "here"], ["here"], Options()),
        (["--inner.pair", "1", "2", "3"], ["3"], Options()),
        (["--", "--json"], ["--json"], Options()),
        (["--name", "--", "x"], ["x"], None),
        (["--stop", "a,b", "--stop=--", "x"], ["x"], Options(stop=("a,b", "--"))),
        (["--name=a=b"], [], Options(name="a=b")),
        (["-1"], ["-1"], Options()),
        ([""], [""], Options()),
    ],
)
def test_arguments_and_options_are_told_apart(words, values, options) -> None:
    if options is None:
        with pytest.raises(UsageError, match="--name needs a value: a text"):
            parse(VERB, words)
        return
    arguments = parse(VERB, words)
    assert arguments.values == values
    assert arguments.options == options


@pytest.mark.parametrize(
    ("words", "cause", "where", "hint"),
    [
        (["--stpes=3"], "unknown flag --stpes", "primer walk", "--steps"),
        (["--on-top"], "unknown flag --on-top", "primer walk", "--inner.on-top"),
        (["--inner.order=3"], "unknown flag --inner.order", "primer walk", "--inner.orders"),
        (["-j"], "unknown flag -j", "primer walk", "primer walk --help"),
        (["--steps"], "--steps needs a value: a whole number", None, "--steps=…"),
        (["--steps", "--json"], "--steps needs a value: a whole number", None, "--steps=…"),
        (["--steps=3.5"], "steps must be a whole number, got '3.5'", "--steps", None),
        (["--lr=fast"], "lr must be a number, got 'fast'", "--lr", None),
        (["--lr=inf"], "lr must be a finite number, got inf", "--lr", None),
        (["--json=3"], "json must be true or false, got '3'", "--json", None),
        (["--no-json=true"], "--no-json takes no value", None, "--json=true"),
        (
            ["--inner.pair=1"],
            "inner.pair must be a list of 2, each a number, got [1.0]",
            "--inner.pair",
            None,
        ),
        (["--inner.kinds=c"], "inner.kinds must be one of a, b, got 'c'", "--inner.kinds", None),
        (["--no-steps"], "unknown flag --no-steps", "primer walk", "--steps"),
        (["a", "b", "c"], "one argument too many: 'c'", "primer walk", "primer walk [WHERE]"),
    ],
)
def test_mistakes_name_the_flag(words, cause, where, hint) -> None:
    with pytest.raises(UsageError) as caught:
        parse(VERB, words)
    assert caught.value.cause == cause
    assert caught.value.where == where
    if hint:
        assert caught.value.hint == hint


def test_help_is_seen_anywhere_but_after_the_dashes() -> None:
    assert parse(VERB, ["here", "--help"]).help
    assert parse(VERB, ["-h", "here"]).values == ["here"]
    assert parse(VERB, ["--nonsense", "--help"]).help
    assert not parse(VERB, ["--", "--help"]).help
