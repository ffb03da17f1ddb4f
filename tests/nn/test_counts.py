"""Counted predictions against counting by hand."""

from collections import Counter

import pytest
import torch

from primer.nn.counts import CountedNGrams, NGramMixture

V = 5


def witten_bell(
    text: list[int], context: list[int], longest: int, skip: range = range(0)
) -> list[list[float]]:
    """p_1 … p_longest after `context`, counting with a plain loop; targets at places in `skip` are not counted."""
    everything = Counter(text)
    p = [everything[x] / len(text) for x in range(V)]
    levels = []
    for k in range(1, longest + 1):
        if len(context) >= k:
            places = [i for i in range(k, len(text)) if text[i - k : i] == context[-k:] and i not in skip]
            n = Counter(text[i] for i in places)
            if places:
                p = [(n[x] + len(n) * p[x]) / (len(places) + len(n)) for x in range(V)]
        levels.append(p)
    return levels


@pytest.fixture
def text() -> list[int]:
    torch.manual_seed(0)
    return (torch.rand(400) ** 2 * V).long().tolist()


def test_every_level_is_what_counting_gives(text: list[int]) -> None:
    counts = CountedNGrams(V, 4, folds=4).double()
    counts.fit(torch.tensor(text))
    read = torch.randint(V, (2, 9))
    found = counts(read).exp()
    assert found.shape == (2, 9, 4, V)
    for b, t in ((0, 0), (0, 2), (0, 8), (1, 5), (1, 8)):
        expected = witten_bell(text, read[b, : t + 1].tolist(), 4)
        torch.testing.assert_close(found[b, t], torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 9, 4, dtype=torch.float64))


def test_a_window_never_sees_its_own_fold(text: list[int]) -> None:
    counts = CountedNGrams(V, 3, folds=4).double()
    counts.fit(torch.tensor(text))
    start = 197  # the window's targets lie in folds 1 (to place 199) and 2
    read = torch.tensor([text[start : start + 6]])
    found = counts(read, starts=torch.tensor([start])).exp()
    for t in range(6):
        fold = (start + 1 + t) // 100
        own = range(100 * fold, 100 * fold + 100)
        expected = witten_bell(text, text[start : start + t + 1], 3, skip=own)
        torch.testing.assert_close(found[0, t], torch.tensor(expected, dtype=torch.float64))


def test_tokens_from_a_cache_count_as_context(text: list[int]) -> None:
    counts = CountedNGrams(V, 3)
    counts.fit(torch.tensor(text))
    read = torch.randint(V, (2, 9))
    torch.testing.assert_close(counts(read[:, 6:], before=read[:, 4:6]), counts(read)[:, 6:])


def test_tables_travel(text: list[int]) -> None:
    counts, other = CountedNGrams(V, 3), CountedNGrams(V, 3)
    counts.fit(torch.tensor(text))
    other.adopt(counts.state_dict())
    read = torch.randint(V, (1, 7))
    assert torch.equal(counts(read), other(read))


def test_the_mixture_begins_as_a_mean_and_weighs_what_it_learned() -> None:
    log_p = torch.randn(2, 4, 5, V)
    for longest, mean in ((5, log_p[:, :, 2:].mean(2)), (2, log_p[:, :, 1])):
        mixture = NGramMixture(8, longest)
        mixture.start()
        torch.testing.assert_close(mixture(torch.randn(2, 4, 8), log_p[:, :, :longest]), mean)
    with torch.no_grad():
        mixture.trust.bias.copy_(torch.tensor([1.0, -2.0]))
        mixture.trust.weight[0, 3] = 0.5
    h = torch.randn(2, 4, 8)
    expected = (1 + 0.5 * h[..., 3:4]) * log_p[:, :, 0] - 2 * log_p[:, :, 1]
    torch.testing.assert_close(mixture(h, log_p[:, :, :2]), expected)
