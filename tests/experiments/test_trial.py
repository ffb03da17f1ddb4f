"""What is trained: the base and its variants, with the same seeds; and which runs are already that."""

from dataclasses import replace
from typing import Any

import pytest

from primer.errors import UsageError
from primer.experiments.experiment import Experiment, Measure, Variant
from primer.experiments.trial import Trial, trials

LOSS = Measure("loss", "", lambda run, progress: 0.0)
EXPERIMENT = Experiment(
    "x",
    "Why?",
    "lecture",
    (LOSS,),
    (Variant("h=3", {"model.n_heads": 3}), Variant("h=2", {"model.n_heads": 2})),
    flags={"train.steps": 40, "model.d_model": 48},
)


def made(flags: dict[str, Any] | None = None, seeds: int = 2) -> list[Trial]:
    return trials(EXPERIMENT, EXPERIMENT.variants, seeds, flags or {})


def test_every_variant_is_trained_with_every_seed_of_the_base() -> None:
    found = made({"seed": 7})
    assert [(one.variant.name, one.seed, one.config.seed) for one in found] == [
        ("base", 7, 7), ("base", 8, 8), ("h=3", 7, 7), ("h=3", 8, 8), ("h=2", 7, 7), ("h=2", 8, 8),
    ]  # fmt: skip


def test_flags_lie_over_the_experiments_and_under_the_variants() -> None:
    found = made({"train.steps": 50, "model.n-heads": 6})
    assert {one.config.train.steps for one in found} == {50}
    assert [one.config.model.n_heads for one in found] == [6, 6, 3, 3, 2, 2]
    assert {one.config.model.d_model for one in found} == {48}


def test_a_runs_name_says_which_variant_it_is() -> None:
    assert [one.config.recipe for one in made(seeds=1)] == ["lecture", "lecture h=3", "lecture h=2"]


@pytest.mark.parametrize(
    ("flags", "seeds", "said"),
    [
        ({}, 0, "--seeds must be at least 1"),
        ({"train.minutes": 2.0}, 1, "equally many steps"),
        ({"train.stepz": 2}, 1, "unknown key train.stepz"),
        ({"model.d_model": 50, "model.n_heads": 5}, 1, "d_model=50 does not divide by model.n_heads=3"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(
    flags: dict[str, Any], seeds: int, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as error:
        made(flags, seeds)
    assert error.value.hint


def test_an_impossible_variant_is_named() -> None:
    with pytest.raises(UsageError) as error:
        made({"model.d_model": 50, "model.n_heads": 5})
    assert error.value.where is not None
    assert "h=3" in error.value.where


def test_a_run_is_known_by_its_choices_whatever_was_left_to_the_program() -> None:
    (base, *_) = made()
    config = base.config
    assert base.made(config)
    ran = replace(
        config,
        about="another word for it",
        model=replace(config.model, vocab_size=65),
        train=replace(config.train, device="cpu", precision="fp32", threads=2, micro_batch=8, compile="off"),
    )
    assert base.made(ran)
    for other in (
        replace(config, seed=2),
        replace(config, model=replace(config.model, n_layers=5)),
        replace(config, train=replace(config.train, steps=41)),
        replace(config, optim=replace(config.optim, lr=1e-5)),
        replace(config, data=replace(config.data, source="shakespeare2")),
    ):
        assert not base.made(other)
    (fixed, *_) = made({"train.threads": 1})
    assert not fixed.made(ran), "what was asked for is not left to the program"
