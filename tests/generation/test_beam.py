"""Beam search against enumerating every sentence, and against the same algorithm written with lists and dicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from primer.errors import DataError, UsageError
from primer.generation.beam import beam_search, length_penalty
from primer.generation.config import BeamConfig
from primer.generation.hypotheses import Hypothesis, largest
from primer.models.config import TransformerConfig
from primer.models.transformer import Transformer
from primer.shapes import PADDING

END = 0


def small(seed: int = 0, vocabulary: int = 5, **options: Any) -> Transformer:
    """A model with weights large enough that what it writes depends on what it reads, and on what it wrote."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"context_length": 12, "d_model": 8, "n_heads": 2, "d_ff": 12, "n_layers": 2}
    model = Transformer(TransformerConfig(vocab_size=vocabulary, **({"dropout": 0.0} | sizes | options)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    return model.double()


def biased(model: Transformer, end: float = 0.0, scale: float = 1.0) -> Transformer:
    """The same with logits that are scaled, and with something added to the end token's."""
    unembed, added = model.embedding.unembed, torch.zeros(model.config.vocab_size, dtype=torch.float64)
    added[END] = end
    model.embedding.unembed = lambda h: scale * unembed(h) + added  # type: ignore[method-assign]
    return model


def telling(seed: int = 0, **options: Any) -> Transformer:
    """One that is sure of its tokens, so that its sentences are of different lengths."""
    return biased(small(seed, **options), -3.0, 3.0)


def never_ending(**options: Any) -> Transformer:
    return biased(small(**options), -math.inf)


def source(*sentences: Sequence[int], width: int = 0) -> Tensor:
    """Sentences and their end tokens as padded rows."""
    longest = max(width, max(map(len, sentences)) + 1)
    rows = [[*sentence, END] + [PADDING] * (longest - 1 - len(sentence)) for sentence in sentences]
    return torch.tensor(rows)


@torch.no_grad()
def log_p_after(
    model: Transformer, sentence: Sequence[int], beginnings: Sequence[tuple[int, ...]], vocabulary: int
) -> list[list[float]]:
    """log P of each token after each of these beginnings, which are equally long; all is read again."""
    targets = torch.tensor([[END, *ids] for ids in beginnings])
    logits = model.eval()(source(sentence).expand(len(targets), -1), targets)[:, -1, :vocabulary]
    return logits.log_softmax(-1).tolist()


def every_sentence(
    model: Transformer, sentence: Sequence[int], limit: int, alpha: float, vocabulary: int
) -> list[Hypothesis]:
    """All sentences of at most `limit` tokens, their end included, the best first."""
    found = []
    beginnings = {(): 0.0}
    for length in range(1, limit + 1):
        rows = log_p_after(model, sentence, list(beginnings), vocabulary)
        longer = {}
        for (ids, log_p), row in zip(beginnings.items(), rows, strict=True):
            ended = log_p + row[END]
            found.append(Hypothesis(ids, ended, ended / ((5 + length) / 6) ** alpha, True))
            longer |= {(*ids, token): log_p + row[token] for token in range(vocabulary) if token != END}
        beginnings = longer
    return sorted(found, key=lambda h: -h.score)


def slowly(
    model: Transformer, sentence: Sequence[int], config: BeamConfig, wanted: int, vocabulary: int
) -> tuple[list[Hypothesis], int, list[Hypothesis]]:
    """One sentence, always to its limit; after how many tokens nothing could change any more; what is cut there."""
    limit = min(len(sentence) + 1 + config.extra_length, model.config.context_length)
    alive: dict[tuple[int, ...], float] = {(): 0.0}
    finished: list[Hypothesis] = []
    decided = limit
    for length in range(1, limit + 1):
        lp = ((5 + length) / 6) ** config.length_penalty
        rows = log_p_after(model, sentence, list(alive), vocabulary) if alive else []
        candidates = [
            (log_p + more, (*ids, token))
            for (ids, log_p), row in zip(alive.items(), rows, strict=True)
            for token, more in enumerate(row)
        ]
        candidates.sort(key=lambda candidate: -candidate[0])  # stable
        candidates = candidates[: 2 * config.beam if config.beam > 1 else 1]
        finished += [Hypothesis(ids[:-1], p, p / lp, True) for p, ids in candidates if ids[-1] == END]
        finished.sort(key=lambda h: -h.score)
        alive = dict([(ids, p) for p, ids in candidates if ids[-1] != END][: config.beam])
        reachable = max(alive.values(), default=-math.inf) / ((5 + limit) / 6) ** config.length_penalty
        if not alive or (len(finished) >= wanted and finished[wanted - 1].score >= reachable):
            decided = min(decided, length)
    cut = [Hypothesis(ids, p, p / lp, False) for ids, p in alive.items()]
    return (finished or cut)[:wanted], decided, cut


def assert_same(found: list[Hypothesis], wanted: list[Hypothesis]) -> None:
    assert [h.ids for h in found] == [h.ids for h in wanted]
    assert [h.ended for h in found] == [h.ended for h in wanted]
    assert [h.log_p for h in found] == pytest.approx([h.log_p for h in wanted], rel=1e-9, abs=1e-9)
    assert [h.score for h in found] == pytest.approx([h.score for h in wanted], rel=1e-9, abs=1e-9)


def test_the_length_penalty_is_that_of_equation_14() -> None:
    assert length_penalty(1, 0.6) == 1
    assert length_penalty(25, 0.6) == pytest.approx(30**0.6 / 6**0.6, rel=1e-14)
    assert length_penalty(25, 1.0) == 5
    assert length_penalty(25, 0.0) == 1


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize(("seed", "vocabulary", "extra"), [(1, 4, 2), (2, 3, 3), (3, 4, 1), (4, 2, 4)])
def test_a_beam_that_holds_all_finds_all(
    seed: int, vocabulary: int, extra: int, alpha: float, use_cache: bool
) -> None:
    """With nothing pruned, the n best of all sentences, for every n: found, in order, with their scores."""
    model = small(seed, vocabulary)
    everything = every_sentence(model, [1], 2 + extra, alpha, vocabulary)
    config = BeamConfig(beam=vocabulary ** (2 + extra), length_penalty=alpha, extra_length=extra)
    assert config.beam > len(everything)
    for wanted in (1, 5, config.beam):
        (found,) = beam_search(model, source([1]), end=END, config=config, wanted=wanted, use_cache=use_cache)
        assert_same(found, everything[:wanted])


def test_the_length_penalty_changes_what_is_best() -> None:
    """Else the tests above would say little about it."""
    lengths = []
    for alpha in (0.0, 0.6, 1.0, 3.0):
        (found,) = beam_search(
            biased(small(3, 4), scale=0.3),
            source([1, 2, 3]),
            end=END,
            config=BeamConfig(beam=50, length_penalty=alpha, extra_length=3),
        )
        lengths.append(len(found[0].ids))
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    vocabulary=st.integers(2, 7),
    sentence=st.lists(st.integers(1, 6), max_size=5),
    beam=st.integers(1, 5),
    wanted=st.integers(1, 5),
    alpha=st.sampled_from([0.0, 0.6, 1.0, 2.5]),
    extra=st.integers(0, 6),
    scale=st.sampled_from([0.0, 0.2, 1.0, 3.0]),
    end_bias=st.sampled_from([-3.0, 0.0, 1.0, 4.0]),
    use_cache=st.booleans(),
)
def test_ending_early_changes_nothing_and_comes_as_early_as_it_can(
    seed: int,
    vocabulary: int,
    sentence: list[int],
    beam: int,
    wanted: int,
    alpha: float,
    extra: int,
    scale: float,
    end_bias: float,
    use_cache: bool,
) -> None:
    """The result of a search that always goes on to its limit, in as many steps as its bound needs.

    With a scale of 0 all tokens but the end are equally likely, and ties decide.
    """
    model = biased(small(seed, vocabulary), end_bias, scale)
    sentence = [token % vocabulary for token in sentence]
    config = BeamConfig(beam, alpha, extra)
    wanted = min(wanted, beam)
    expected, decided, _ = slowly(model, sentence, config, wanted, vocabulary)
    steps = 0
    unembed = model.embedding.unembed

    def counted(h: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        return unembed(h)

    model.embedding.unembed = counted  # type: ignore[method-assign]
    (found,) = beam_search(
        model, source(sentence), end=END, config=config, wanted=wanted, use_cache=use_cache
    )
    assert_same(found, expected)
    assert steps == decided


def test_the_best_is_one_of_all_sentences_and_a_narrow_beam_may_miss_it() -> None:
    missed = 0
    for seed in range(12):
        model = small(seed, 4)
        everything = every_sentence(model, [1], 4, 0.6, 4)
        scores = {h.ids: h.score for h in everything}
        for beam in (1, 2, 3):
            ((best,),) = beam_search(
                model, source([1]), end=END, config=BeamConfig(beam=beam, extra_length=2)
            )
            if best.ended:
                assert best.score == pytest.approx(scores[best.ids], rel=1e-9)
                assert best.score <= everything[0].score + 1e-12
            missed += best.ids != everything[0].ids
    assert missed, "a search that prunes nothing would not be tested"


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_beam_of_one_is_the_likeliest_token_each_time(use_cache: bool) -> None:
    ends = set()
    for seed in range(10):
        model = small(seed)
        ids: tuple[int, ...] = ()
        log_p = 0.0
        while len(ids) < 3 + 4:
            row = torch.tensor(log_p_after(model, [3, 1], [ids], 5)[0], dtype=torch.float64)
            log_p += float(row.max())
            if int(row.argmax()) == END:
                break
            ids += (int(row.argmax()),)
        ((found,),) = beam_search(
            model, source([3, 1]), end=END, config=BeamConfig(beam=1, extra_length=4), use_cache=use_cache
        )
        assert found.ids == ids
        assert found.log_p == pytest.approx(log_p, rel=1e-9)
        assert found.ended == (len(ids) < 7)
        ends.add(found.ended)
    assert ends == {True, False}


SENTENCES = ([1, 2, 3, 4, 1, 2], [3], [], [2, 2, 4], [4, 1, 3, 1])


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_rest_of_the_batch_plays_no_part(beam: int, use_cache: bool) -> None:
    """Neither do its padding and its order; sentences leave at different times, and each has its own limit."""
    lengths = set()
    for seed, norm in ((0, "post"), (10, "pre")):
        model = telling(seed, norm=norm, attention_bias=True)
        how: dict[str, Any] = {"end": END, "config": BeamConfig(beam=beam, extra_length=3), "wanted": beam}
        together = beam_search(model, source(*SENTENCES, width=9), use_cache=use_cache, **how)
        backwards = beam_search(model, source(*SENTENCES[::-1]), use_cache=use_cache, **how)
        for sentence, found, again in zip(SENTENCES, together, backwards[::-1], strict=True):
            (alone,) = beam_search(model, source(sentence), **how)
            assert_same(found, alone)
            assert_same(again, alone)
            lengths.add(len(found[0].ids))
    assert len(lengths) > 3, "they must not all leave at once"


@pytest.mark.gpu
def test_a_gpu_finds_the_same() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for use_cache in (True, False):
        how: dict[str, Any] = {"end": END, "config": BeamConfig(beam=3, extra_length=3), "wanted": 3}
        here = beam_search(small(0), source(*SENTENCES), **how)
        there = beam_search(small(0).cuda(), source(*SENTENCES).cuda(), use_cache=use_cache, **how)
        for found, expected in zip(there, here, strict=True):
            assert_same(found, expected)


def test_a_sentence_that_is_done_costs_nothing_any_more() -> None:
    """The batch shrinks; what is left of it is computed as before."""
    model, rows = telling(1), []
    step = model.step
    model.step = lambda tokens, cache: (rows.append(len(tokens)), step(tokens, cache))[1]  # type: ignore[method-assign]
    beam_search(model, source(*SENTENCES), end=END, config=BeamConfig(beam=3, extra_length=3))
    assert rows[0] == 15
    assert rows == sorted(rows, reverse=True)
    assert rows[-1] < 15
    assert len(rows) <= 7 + 3


def test_the_source_is_read_once() -> None:
    """Its keys and values are those of the source, not of each hypothesis."""
    model, shapes = small(), []
    encode = model.encode
    model.encode = lambda ids: (shapes.append(ids.shape), encode(ids))[1]  # type: ignore[method-assign]
    beam_search(model, source([1, 2], [3]), end=END, config=BeamConfig(beam=3, extra_length=3))
    assert shapes == [(2, 3)]


def test_at_its_limit_a_sentence_is_given_as_it_stands_where_none_has_ended() -> None:
    """Of its own length and three more, its end token counted; the score is that of so many tokens."""
    found = beam_search(
        never_ending(), source([1, 2], [3]), end=END, config=BeamConfig(beam=2, extra_length=3), wanted=2
    )
    for hypotheses, limit in zip(found, (6, 5), strict=True):
        assert len(hypotheses) == 2
        for h in hypotheses:
            assert not h.ended
            assert len(h.ids) == limit
            assert END not in h.ids
            assert h.score == pytest.approx(h.log_p / ((5 + limit) / 6) ** 0.6, rel=1e-12)


def test_at_the_limit_an_ended_sentence_goes_before_likelier_beginnings() -> None:
    model = biased(small(5), -2.0)
    config = BeamConfig(beam=3, extra_length=2)
    expected, _, cut = slowly(model, [1], config, 3, 5)
    (found,) = beam_search(model, source([1]), end=END, config=config, wanted=3)
    assert_same(found, expected)
    assert all(h.ended for h in found)
    assert cut[0].score > found[0].score


def test_the_models_context_is_a_limit_too() -> None:
    (found,) = beam_search(
        never_ending(context_length=8), source([1, 2, 3, 4, 1]), end=END, config=BeamConfig()
    )
    assert len(found[0].ids) == 8
    with pytest.raises(UsageError, match="9 tokens do not fit"):
        beam_search(small(context_length=8), source([1] * 8), end=END)


def test_a_translation_may_be_empty() -> None:
    model = biased(small(), 50.0)
    ((found,),) = beam_search(model, source([1, 2]), end=END)
    assert found.ids == ()
    assert found.ended
    assert found.log_p == found.score == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_padded_vocabulary_is_as_if_it_were_not(use_cache: bool) -> None:
    model, wide = small(2, 5), small(2, 9)
    with torch.no_grad():
        state = model.state_dict()
        state["embedding.tokens.weight"] = torch.cat([state["embedding.tokens.weight"], torch.ones(4, 8)])
        wide.load_state_dict(state)
    unembed = wide.embedding.unembed
    wide.embedding.unembed = lambda h: unembed(h) + 9.0 * (torch.arange(9) > 4)  # type: ignore[method-assign]
    how: dict[str, Any] = {"end": END, "config": BeamConfig(beam=3, extra_length=3), "wanted": 3}
    wanted = beam_search(model, source([1, 2], [3]), **how)
    found = beam_search(wide, source([1, 2], [3]), vocabulary=5, use_cache=use_cache, **how)
    for here, there in zip(found, wanted, strict=True):
        assert_same(here, there)
    (unbounded, _) = beam_search(wide, source([1, 2], [3]), **how)
    assert unbounded[0].log_p < found[0][0].log_p - 1, "else it would not matter"
    with pytest.raises(UsageError, match="the source has id 7 at position 1"):
        beam_search(wide, source([1, 7]), vocabulary=5, end=END)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error_and_modes_come_back(poison: float) -> None:
    model = telling().train()
    model.decoder[1].eval()  # someone froze a part
    modes = [module.training for module in model.modules()]
    unembed, calls = model.embedding.unembed, []

    def poisoned(h: Tensor) -> Tensor:
        logits = unembed(h)
        calls.append(len(h))
        if len(calls) == 3:
            logits[-1, 2] = poison
        return logits

    model.embedding.unembed = poisoned  # type: ignore[method-assign]
    with pytest.raises(DataError, match="not finite"):
        beam_search(model, source([1, 2], [3, 4]), end=END, config=BeamConfig(extra_length=6))
    assert len(calls) == 3
    assert [module.training for module in model.modules()] == modes


def test_dropout_is_off_and_no_gradient_is_kept() -> None:
    model = small(dropout=0.5, pattern_dropout=0.5)
    unembed, grads = model.embedding.unembed, []
    model.embedding.unembed = lambda h: (grads.append(h.requires_grad), unembed(h))[1]  # type: ignore[method-assign]
    how: dict[str, Any] = {"end": END, "config": BeamConfig(beam=2, extra_length=3)}
    expected = beam_search(model.eval(), source([1, 2]), **how)
    assert beam_search(model.train(), source([1, 2]), **how) == expected
    assert model.training
    assert torch.is_grad_enabled()
    assert grads
    assert not any(grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_probabilities_are_computed_and_added_in_float32_or_wider(dtype: torch.dtype) -> None:
    """In bfloat16 each would be known to one part in 200. The logits that the model gave are what they are."""
    model, given = small(1).to(dtype), []
    unembed = model.embedding.unembed
    model.embedding.unembed = lambda h: (given.append(3 * unembed(h)), given[-1])[1]  # type: ignore[method-assign]
    config = BeamConfig(beam=1, extra_length=9)
    ((found,),) = beam_search(model, source([1, 2]), end=END, config=config)
    written = found.ids + ((END,) if found.ended else ())
    assert len(written) == len(given) > 3
    assert given[0].dtype == dtype
    log_p = sum(
        float(logits[0].double().log_softmax(-1)[token]) for logits, token in zip(given, written, strict=True)
    )
    assert found.log_p == pytest.approx(log_p, rel=1e-6)
    assert found.score == pytest.approx(log_p / length_penalty(len(written), 0.6), rel=1e-6)


@settings(deadline=None)
@given(
    rows=st.integers(1, 12).flatmap(
        lambda n: st.lists(
            st.lists(st.sampled_from([-math.inf, -2.0, -1.0, 0.0, 0.5]), min_size=n, max_size=n),
            min_size=1,
            max_size=4,
        )
    ),
    count=st.integers(1, 12),
)
def test_of_equal_ones_the_first_are_taken(rows: list[list[float]], count: int) -> None:
    count = min(count, len(rows[0]))
    top, places = largest(torch.tensor(rows), count)
    for row, values, order in zip(rows, top.tolist(), places.tolist(), strict=True):
        assert order == sorted(range(len(row)), key=lambda n: -row[n])[:count]
        assert values == [row[n] for n in order]


def test_largest_among_very_many_equal_ones() -> None:
    """Where `topk` begins to take whichever it meets."""
    values = torch.randn(3, 20_000, generator=torch.Generator().manual_seed(0)).mul_(2).round()
    _, places = largest(values, 8)
    for row, order in zip(values.tolist(), places.tolist(), strict=True):
        assert order == sorted(range(20_000), key=lambda n: -row[n])[:8]


def test_where_only_the_end_can_be_written_nothing_else_is_waited_for() -> None:
    model, steps = small(vocabulary=1), []
    step = model.step
    model.step = lambda tokens, cache: (steps.append(1), step(tokens, cache))[1]  # type: ignore[method-assign]
    (found,) = beam_search(model, source([]), end=END, wanted=4)
    assert found == [Hypothesis((), 0.0, 0.0, True)]
    assert len(steps) == 1


def test_a_batch_of_nothing() -> None:
    assert beam_search(small(), torch.zeros(0, 3, dtype=torch.long), end=END) == []


@pytest.mark.parametrize(
    ("rows", "changes", "said"),
    [
        ([[1, 0], [PADDING, PADDING]], {}, "sentence 1 has no tokens"),
        ([[1, 5]], {}, "the source has id 5"),
        ([[1, 0]], {"end": 5}, "the end token is 5"),
        ([[1, 0]], {"end": -1}, "the end token is -1"),
        ([[1, 0]], {"wanted": 5}, "5 translations are wanted of a beam of 4"),
        ([[1, 0]], {"wanted": 0}, "0 translations are wanted"),
    ],
)
def test_what_cannot_be_searched_is_named(rows: list[list[int]], changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        beam_search(small(), torch.tensor(rows), **({"end": END} | changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam", 0),
        ("beam", 10**9),
        ("length_penalty", -0.1),
        ("length_penalty", math.nan),
        ("length_penalty", math.inf),
        ("extra_length", -1),
    ],
)
def test_impossible_values_are_usage_errors(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"translate.{name} must"):
        BeamConfig(**{name: value})
