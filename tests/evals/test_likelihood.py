"""Log-likelihoods against brute force: one pair at a time, one token at a time, in float64, without a batch."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging import MergingTokenizer
from primer.errors import DataError, UsageError
from primer.evals.likelihood import Likelihood, Pair, encode_pair, log_likelihoods
from primer.models.config import GPTConfig, NGramConfig
from primer.models.gpt import GPT
from primer.tokens.char import ByteTokenizer, CharTokenizer
from primer.tokens.tokenizer import END_OF_TEXT, Tokenizer

V, CONTEXT = 13, 8


def model(**options: Any) -> GPT:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": V,
        "context_length": CONTEXT,
        "d_model": 16,
        "n_layers": 2,
        "n_heads": 2,
    }
    made = GPT(GPTConfig(**{**sizes, "init_std": 0.5, "pattern_dropout": 0.4, **options}))
    if made.counts is not None:
        made.counts.fit(torch.randint(V, (500,)))
    return made


@torch.no_grad()
def by_hand(judge: GPT, pair: Pair) -> tuple[float, bool]:
    """Σ log p and greediness of a pair that fits, from one new pass for every token and nothing but a softmax."""
    judge = judge.double().eval()
    seen, total, greedy = pair.context.tolist(), 0.0, True
    for token in pair.continuation.tolist():
        logits = judge(torch.tensor([seen[-CONTEXT:]]))[0, -1]
        total += math.log(float(logits[token].exp() / logits.exp().sum()))
        greedy &= int(logits.argmax()) == token
        seen.append(token)
    judge.float()
    return total, greedy


def drawn(lengths: list[tuple[int, int]], seed: int = 0) -> list[Pair]:
    generator = np.random.default_rng(seed)
    return [Pair(generator.integers(V, size=a), generator.integers(V, size=b)) for a, b in lengths]


FITTING = [(1, 1), (3, 4), (7, 1), (2, 2), (1, 8), (5, 3), (1, 3), (4, 5), (1, 2), (6, 2)]


@pytest.mark.parametrize("tokens_at_once", [1, 9, 30, 10_000])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"positions": "rotary"},
        {"positions": "none", "ngram": NGramConfig(orders=(2,), rows=64, counted=2)},
    ],
    ids=["learned", "rotary", "n-grams"],
)
def test_a_batch_scores_each_as_if_it_stood_alone(options: dict[str, Any], tokens_at_once: int) -> None:
    judge, pairs = model(**options), drawn(FITTING)
    pairs += [greedy_pair(judge, 3), greedy_pair(judge, 5)]
    found = log_likelihoods(judge, pairs, tokens_at_once=tokens_at_once)
    for pair, each in zip(pairs, found, strict=True):
        log_p, greedy = by_hand(judge, pair)
        assert each.log_p == pytest.approx(log_p, rel=1e-5)
        assert each.greedy == greedy
        assert (each.tokens, each.cut) == (len(pair.continuation), 0)
    assert [each.greedy for each in found[-2:]] == [True, True]
    assert not all(each.greedy for each in found)


@torch.no_grad()
def greedy_pair(judge: GPT, length: int) -> Pair:
    """A continuation that greedy decoding writes."""
    judge.eval()
    seen = [length, 1]
    for _ in range(length):
        seen.append(int(judge(torch.tensor([seen]))[0, -1].argmax()))
    return Pair(np.array(seen[:2]), np.array(seen[2:]))


def test_one_other_token_is_not_greedy_wherever_it_stands() -> None:
    judge = model()
    pair = greedy_pair(judge, 5)
    for place in range(5):
        other = pair.continuation.copy()
        other[place] = (other[place] + 1) % V
        assert not log_likelihoods(judge, [Pair(pair.context, other)])[0].greedy


def test_a_long_context_is_cut_from_the_left_and_counted() -> None:
    """Context and continuation are 1 token longer than the model's context where nothing has to be cut yet."""
    judge = model()
    for (a, b), cut in {(5, 4): 0, (6, 4): 1, (20, 3): 14, (30, 8): 29}.items():
        (pair,) = drawn([(a, b)])
        (found,) = log_likelihoods(judge, [pair])
        short = Pair(pair.context[cut:], pair.continuation)
        assert found.cut == cut
        assert found.log_p == log_likelihoods(judge, [short])[0].log_p
        assert found.log_p == pytest.approx(whole_window(judge, pair), rel=1e-5)


@torch.no_grad()
def whole_window(judge: GPT, pair: Pair) -> float:
    """The harness' rule: the last context + 1 ids, and of their log-probabilities the continuation's."""
    ids = np.concatenate([pair.context, pair.continuation])[-(CONTEXT + 1) :]
    log_p = judge.eval()(torch.from_numpy(ids[:-1])[None]).log_softmax(-1)[0]
    own = range(len(ids) - 1 - len(pair.continuation), len(ids) - 1)
    return float(sum(log_p[place, ids[place + 1]] for place in own))


@pytest.mark.parametrize("length", [9, 12, 13, 40])
def test_a_continuation_that_does_not_fit_is_scored_in_pieces(length: int) -> None:
    """Each piece of half a context behind the other half of it; every token once."""
    judge = model()
    (pair,) = drawn([(3, length)])
    (found,) = log_likelihoods(judge, [pair], tokens_at_once=20)
    ids = np.concatenate([pair.context, pair.continuation])
    expected, scored = 0.0, 0
    for start in range(3, len(ids), CONTEXT // 2):
        stop = min(start + CONTEXT // 2, len(ids))
        first = max(0, stop - CONTEXT - 1)
        piece = Pair(ids[first:start], ids[start:stop])
        expected += by_hand(judge, piece)[0]
        scored += len(piece.continuation)
    assert scored == found.tokens == length
    assert found.log_p == pytest.approx(expected, rel=1e-5)
    assert found.cut == max(0, len(ids) - 1 - CONTEXT)


def test_a_long_continuation_is_greedy_only_as_a_whole() -> None:
    """Nine zeros, of which one is another number, for a model that always writes zeros."""
    judge = model(head_bias=True)
    with torch.no_grad():
        judge.head.bias[0] = 100.0
    zeros = np.zeros(CONTEXT + 1, dtype=np.int64)
    assert log_likelihoods(judge, [Pair(zeros[:2], zeros)])[0].greedy
    for place in range(len(zeros)):
        other = zeros.copy()
        other[place] = 1
        assert not log_likelihoods(judge, [Pair(zeros[:2], other)])[0].greedy


@torch.no_grad()
def test_narrow_weights_give_wide_probabilities() -> None:
    judge = model().bfloat16()
    pairs = drawn(FITTING)
    for pair, found in zip(pairs, log_likelihoods(judge, pairs, tokens_at_once=1), strict=True):
        ids = np.concatenate([pair.context, pair.continuation])
        rows = judge.eval()(torch.from_numpy(ids[:-1])[None])[0].double().log_softmax(-1)
        own = range(len(pair.context) - 1, len(ids) - 1)
        assert found.log_p == pytest.approx(float(sum(rows[t, ids[t + 1]] for t in own)), rel=1e-6)


@torch.no_grad()
def test_a_context_of_one() -> None:
    judge = model(context_length=1)
    pair = Pair(np.array([1, 2]), np.array([3, 4]))
    (found,) = log_likelihoods(judge, [pair])
    expected = sum(
        float(judge.eval()(torch.tensor([[a]])).log_softmax(-1)[0, 0, b]) for a, b in ((2, 3), (3, 4))
    )
    assert found.log_p == pytest.approx(expected, rel=1e-5)


def test_padding_has_its_share_of_the_probability() -> None:
    """Scores are over the whole vocabulary, as the model was trained: also over ids that no text has."""
    judge = model(vocab_size=20, head_bias=True)
    pairs = drawn(FITTING)
    before = log_likelihoods(judge, pairs)
    with torch.no_grad():
        judge.head.bias[V:] = 3.0
    after = log_likelihoods(judge, pairs)
    for pair, found in zip(pairs, after, strict=True):
        assert found.log_p == pytest.approx(by_hand(judge, pair)[0], rel=1e-5)
    assert all(a.log_p < b.log_p for a, b in zip(after, before, strict=True))


def test_modes_gradients_progress_and_nothing_at_all() -> None:
    judge = model().train()
    said: list[tuple[int, int]] = []
    log_likelihoods(judge, drawn(FITTING), tokens_at_once=20, progress=lambda *each: said.append(each))
    assert judge.training
    assert all(p.grad is None for p in judge.parameters())
    assert said[-1] == (len(FITTING), len(FITTING))
    assert [done for done, _ in said] == sorted({done for done, _ in said})
    assert len(said) > 1
    assert log_likelihoods(judge, []) == []


def test_bad_ids_and_bad_weights_are_named() -> None:
    judge = model()
    with pytest.raises(UsageError, match=f"pair 10 has id {V} at position 1,"):
        log_likelihoods(judge, [*drawn(FITTING), Pair(np.array([1, V, 1]), np.array([2]))])
    with pytest.raises(UsageError, match=f"pair 0 has id {V} at position 1,"):
        log_likelihoods(judge, [Pair(np.array([1]), np.array([V]))])
    with torch.no_grad():
        judge.final_norm.weight.fill_(math.nan)
    with pytest.raises(DataError, match="no numbers"):
        log_likelihoods(judge, drawn(FITTING))


def test_under_autocast_probabilities_are_still_taken_in_float32() -> None:
    judge = model(d_model=64)
    pairs = drawn(FITTING)
    plain = [each.log_p for each in log_likelihoods(judge, pairs)]
    with torch.autocast("cpu", torch.bfloat16):
        narrow = [each.log_p for each in log_likelihoods(judge, pairs)]
    assert narrow != plain
    assert narrow == pytest.approx(plain, rel=0.05)
    assert any(abs(each * 256 - round(each * 256)) > 1e-3 for each in narrow), "no sum of bfloat16 numbers"


WORDS = MergingTokenizer()


def text_of(ids: np.ndarray) -> str:
    return WORDS.decode(ids)


def harness_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """lm-evaluation-harness' `_encode_pair`, by its description."""
    moved = len(context) - len(context.rstrip())
    if moved:
        context, continuation = context[:-moved], context[-moved:] + continuation
    whole, before = tokenizer.encode(context + continuation).tolist(), tokenizer.encode(context).tolist()
    return before, whole[len(before) :]


@settings(deadline=None)
@given(
    st.text(alphabet="two theing.\n€", min_size=1, max_size=20).filter(lambda text: bool(text.strip())),
    st.text(alphabet="two theing.\n€", min_size=1, max_size=20),
)
def test_a_pair_is_split_where_the_harness_splits_it(context: str, continuation: str) -> None:
    """Wherever no token spans the border; and whatever happens, all of the continuation is scored."""
    pair = encode_pair(WORDS, context, continuation)
    whole = np.concatenate([pair.context, pair.continuation])
    stripped = context.rstrip()
    assert len(pair.continuation)
    if pair.context.tolist() != [WORDS.special_tokens[END_OF_TEXT]]:
        assert whole.tolist() == WORDS.encode(context + continuation).tolist()
        assert stripped.startswith(b"".join(map(WORDS.token_bytes, pair.context)).decode(errors="ignore"))
    before, after = harness_pair(WORDS, context, continuation)
    if before + after == whole.tolist() and after:
        assert (pair.context.tolist(), pair.continuation.tolist()) == (before, after)


def test_a_word_takes_its_space_along() -> None:
    pair = encode_pair(WORDS, "two times ", "the")
    assert [WORDS.pieces[i] for i in pair.continuation] == [b" the"]
    assert encode_pair(WORDS, "two times", " the").continuation.tolist() == pair.continuation.tolist()
    pair = encode_pair(WORDS, "two is\n ", "a")
    assert text_of(pair.context) == "two is"
    assert [WORDS.pieces[i] for i in pair.continuation] == [b"\n", b" a"]


def test_a_token_across_the_border_is_scored() -> None:
    """ "th" + "e t" is one token and another: what the border cuts belongs to the continuation."""
    pair = encode_pair(WORDS, "wth", "e")
    assert [WORDS.pieces[i] for i in pair.context] == [b"w"]
    assert [WORDS.pieces[i] for i in pair.continuation] == [b"the"]
    pair = encode_pair(WORDS, "th", "e")
    assert pair.context.tolist() == [WORDS.special_tokens[END_OF_TEXT]], "nothing of the context is left"
    assert [WORDS.pieces[i] for i in pair.continuation] == [b"the"]


def test_before_nothing_stands_the_beginning_of_a_text() -> None:
    for context in ("", " "):
        pair = encode_pair(WORDS, context, "two")
        assert pair.context.tolist() == [WORDS.special_tokens[END_OF_TEXT]]
        assert text_of(pair.continuation) == f"{context}two"
    assert encode_pair(ByteTokenizer(), "", "two").context.tolist() == [10]
    assert encode_pair(CharTokenizer("abc"), "", "abc").context.tolist() == [0]


def test_a_special_token_that_a_text_spells_is_text() -> None:
    pair = encode_pair(WORDS, f"two{END_OF_TEXT}", f"{END_OF_TEXT} times")
    assert WORDS.special_tokens[END_OF_TEXT] not in [*pair.context, *pair.continuation]
    assert text_of(pair.continuation) == f"{END_OF_TEXT} times"


def test_a_continuation_of_strangers_alone_is_refused() -> None:
    skipping = CharTokenizer("abc ", "skip")
    assert encode_pair(skipping, "a ", "☃c").continuation.tolist() == [3, 2]
    with pytest.raises(DataError, match="knows nothing of '☃'"):
        encode_pair(skipping, "ab", "☃")
    assert isinstance(log_likelihoods(model(), drawn([(1, 1)]))[0], Likelihood)
