"""The paper's table as it is typed here, judged by arithmetic; and that each of our rows changes one thing."""

import math
from pathlib import Path

import pytest

from primer.errors import UsageError
from primer.experiments import QUESTIONS, table_3
from primer.experiments.trial import settings, trials
from primer.models.config import TransformerConfig
from primer.models.count import flops_per_token, matmul_parameters, parameters
from primer.recipes.config import TranslationConfig

ON = {"data.source": "multi30k"}

PAPER = {
    "d_k=4": {"d_k": 16},
    "d_k=8": {"d_k": 32},
    "N=1": {"n_layers": 2},
    "N=2": {"n_layers": 4},
    "N=4": {"n_layers": 8},
    "d_model=64": {"d_model": 256},
    "d_model=256": {"d_model": 1024},
    "d_ff=256": {"d_ff": 1024},
    "d_ff=1024": {"d_ff": 4096},
}
"""What the paper's row changes in its base model, where ours changes the same by the same factor."""


def configs(names: str = "") -> dict[str, TranslationConfig]:
    experiment = table_3.experiment(ON)
    found = {one.variant.name: one.config for one in trials(experiment, experiment.chosen(names), 1, ON)}
    assert all(isinstance(config, TranslationConfig) for config in found.values())
    return found  # type: ignore[return-value]


def test_the_papers_counts_are_those_of_one_vocabulary() -> None:
    """All ten sizes that the table prints, to the last digit, with the same number of tokens; it says "about 37000"."""
    low, high = 0.0, math.inf
    for variant in (table_3.BASE, *table_3.VARIANTS):
        if "parameters" not in variant.published:
            continue
        changed = {} if variant is table_3.BASE else PAPER[variant.name]
        without = parameters(TransformerConfig.preset("base", vocab_size=0, **changed))
        width = TransformerConfig.preset("base", **changed).d_model
        printed = variant.published["parameters"]
        low = max(low, (printed - 0.5e6 - without) / width)
        high = min(high, (printed + 0.5e6 - without) / width)
    assert low < high, "the table is typed wrongly, or count.py counts wrongly"
    assert 0.85 < 37_000 / low < 1


@pytest.mark.parametrize("name", PAPER)
def test_ours_changes_the_same_by_the_same_factor(name: str) -> None:
    (variant,) = table_3.experiment(ON).chosen(name)
    ((flag, value),) = variant.flags.items()
    ((field, theirs),) = PAPER[name].items()
    assert flag == f"model.{field}"
    base, published = configs("base")["base"].model, TransformerConfig.preset("base")
    if field == "d_k":
        assert value / base.key_width == theirs / published.key_width
    else:
        assert value / getattr(base, field) == theirs / getattr(published, field)


def test_each_variant_changes_one_thing() -> None:
    found = configs()
    base = settings(found.pop("base"))
    assert len(found) == len(table_3.VARIANTS) == 18
    for name, config in found.items():
        changed = [key for key, value in settings(config).items() if value != base[key]]
        (variant,) = table_3.experiment(ON).chosen(name)
        assert changed == list(variant.flags), name


def test_heads_cost_the_same() -> None:
    """Row (A): "keeping the amount of computation constant" (§6.2)."""
    found = [config.model for config in configs("A").values()]
    assert len(found) == 5
    assert len({matmul_parameters(model) for model in found}) == 1
    assert len({flops_per_token(model) for model in found}) == 1
    assert len({(model.key_width * model.n_heads, model.d_v * model.n_heads) for model in found}) == 1


def test_the_paper_says_in_words_what_the_table_says() -> None:
    """§6.2: one head is 0.9 BLEU worse than the best setting, and too many are worse, too; a smaller d_k hurts; bigger
    is better; dropout is very helpful; learned positions are nearly the same.
    """
    theirs = {variant.name: variant.published for variant in (table_3.BASE, *table_3.VARIANTS)}
    assert max(t["bleu"] for name, t in theirs.items() if name == "base" or name.startswith("h=")) == 25.8
    assert theirs["h=1"]["bleu"] == pytest.approx(25.8 - 0.9)
    assert theirs["h=32"]["bleu"] < 25.8
    assert theirs["d_k=4"]["bleu"] < theirs["d_k=8"]["bleu"] < 25.8
    for smaller, larger in (
        ("N=1", "N=2"),
        ("N=2", "N=4"),
        ("d_model=64", "d_model=256"),
        ("d_ff=256", "d_ff=1024"),
    ):
        assert theirs[smaller]["perplexity"] > theirs[larger]["perplexity"]
        assert theirs[smaller]["parameters"] < theirs[larger]["parameters"]
    assert theirs["dropout=0"]["perplexity"] > theirs["dropout=0.2"]["perplexity"] > 4.92
    assert theirs["smoothing=0"]["perplexity"] < 4.92 < theirs["smoothing=0.2"]["perplexity"]
    assert abs(theirs["positions=learned"]["bleu"] - 25.8) <= 0.11


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("d_k", ["d_k=4", "d_k=8"]),
        ("d_k=8, h=1", ["h=1", "d_k=8"]),
        ("B,E", ["d_k=4", "d_k=8", "positions=learned"]),
        ("base", []),
        ("h,A,h=4", ["h=1", "h=4", "h=16", "h=32"]),
    ],
)
def test_variants_are_called_by_name_by_what_varies_or_by_row(words: str, names: list[str]) -> None:
    assert [variant.name for variant in table_3.experiment(ON).chosen(words)] == names


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="no variant 'dropuot'") as error:
        table_3.experiment(ON).chosen("h,dropuot")
    assert error.value.hint == "--variants=dropout"


def test_a_variant_that_flags_have_made_the_base_is_left_out() -> None:
    experiment = table_3.experiment(ON)
    found = trials(experiment, experiment.chosen("h"), 1, {**ON, "model.n_heads": 4})
    assert [one.variant.name for one in found] == ["base", "h=1", "h=16", "h=32"]


def test_the_text_is_multi30k_only_where_it_is(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched unless it was asked for by name."""
    ask = QUESTIONS["table-3"].experiment

    def measured(flags: dict[str, object]) -> tuple[object, list[str]]:
        found = ask(flags)
        (base,) = trials(found, (), 1, flags)
        return base.config.data.source, [measure.name for measure in found.measures]

    assert measured({}) == ("multi30k", ["perplexity", "bleu"])
    assert measured({"data.source": "dates"}) == ("dates", ["perplexity", "exact"])
    assert not ask({"data.source": "dates"}).notes
    monkeypatch.setenv("PRIMER_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert measured({}) == ("dates", ["perplexity", "exact"])
    assert "--data.source=multi30k fetches it" in ask({}).notes[0]
    assert measured({"data.source": "multi30k"}) == ("multi30k", ["perplexity", "bleu"])
