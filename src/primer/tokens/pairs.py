"""Byte-pair encoding, to be read: merge the commonest pair of neighbours, again and again.

Gage 1994 compressed files that way, Sennrich et al. 2016 (§3.2) made subwords of it, and Radford et al. 2019 (§2.2)
began with the 256 bytes, so that nothing is ever unknown, and split the text before merging. A ladder:

1. over a list of ids: `count_pairs`, `merge`, `train`, `encode`: the whole idea in thirty lines
2. over the chunks of a text (`patterns`): `count_chunks`, `train_chunks`, `Readable`; what occurs often is merged once
3. with special tokens (`special`), for texts of any length (`blocks`): `bpe.BPETokenizer`
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

Pair = tuple[int, int]
"""The ids of two neighbours."""


def count_pairs(ids: Sequence[int]) -> Counter[Pair]:
    """How often each pair of neighbours occurs. (In "aaa" the pair "aa" occurs twice.)

    >>> count_pairs([1, 2, 1, 2])
    Counter({(1, 2): 2, (2, 1): 1})
    """
    return Counter(pairwise(ids))


def commonest(counts: Mapping[Pair, int]) -> Pair:
    """The pair that occurs most often; of several, the one with the smaller ids (the left one decides first)."""
    return min(counts, key=lambda pair: (-counts[pair], pair))


def merge(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    """`ids` with every occurrence of `pair`, from the left, replaced by the id `new`.

    >>> merge([1, 1, 1, 2], (1, 1), 3)
    [3, 1, 2]
    """
    merged: list[int] = []
    place, last = 0, len(ids) - 1
    while place <= last:
        if place < last and ids[place] == pair[0] and ids[place + 1] == pair[1]:
            merged.append(new)
            place += 2
        else:
            merged.append(ids[place])
            place += 1
    return merged


def train(ids: Sequence[int], count: int, first: int = 256) -> list[Pair]:
    """`count` merges learned from `ids`, of which number i makes the id `first` + i; fewer where no pair is left.

    >>> train(b"low lower lowest", 3)
    [(108, 111), (256, 119), (32, 257)]
    """
    merges: list[Pair] = []
    while len(merges) < count and (counts := count_pairs(ids)):
        pair = commonest(counts)
        ids = merge(ids, pair, first + len(merges))
        merges.append(pair)
    return merges


def encode(ids: Sequence[int], ranks: Mapping[Pair, int]) -> list[int]:
    """`ids` after all merges that apply, in the order in which they were learned.

    ranks: merge → the id that it makes; the smaller was learned earlier.

    >>> encode(b"slow", {(108, 111): 256, (256, 119): 257})
    [115, 257]
    """
    merged = list(ids)
    while len(merged) > 1:
        pair = min(pairwise(merged), key=lambda pair: ranks.get(pair, _NEVER))
        if pair not in ranks:
            break
        merged = merge(merged, pair, ranks[pair])
    return merged


_NEVER = 1 << 62


def count_chunks(texts: Iterable[str], split: Callable[[str], list[str]]) -> dict[bytes, int]:
    """How often each chunk occurs in `texts`, as UTF-8."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text))
    return {chunk.encode(): number for chunk, number in counts.items()}


def train_chunks(counts: Mapping[bytes, int], count: int, first: int = 256) -> list[Pair]:
    """What `train` learns, from chunks and how often each occurs: pairs across chunks do not count.

    A merge changes only the chunks that hold its pair, so only their pairs are counted anew. An old pair can only
    become rarer by it. So a queue of counts that were true once will do: what comes out of it with a count that is
    true still is the commonest.
    """
    words, times = [list(chunk) for chunk in counts], list(counts.values())
    total: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)  # the words that hold it, or held it once
    for number, word in enumerate(words):
        for pair in pairwise(word):
            total[pair] += times[number]
            places[pair].add(number)
    queue = [(-often, pair) for pair, often in total.items()]
    heapq.heapify(queue)
    merges: list[Pair] = []
    while queue and len(merges) < count:
        often, pair = heapq.heappop(queue)
        if -often != total[pair]:
            if total[pair]:
                heapq.heappush(queue, (-total[pair], pair))
            continue
        new = first + len(merges)
        merges.append(pair)
        born: set[Pair] = set()
        for number in places.pop(pair):
            word, words[number] = words[number], merge(words[number], pair, new)
            for old in pairwise(word):
                total[old] -= times[number]
            for now in pairwise(words[number]):
                total[now] += times[number]
                if new in now:
                    places[now].add(number)
                    born.add(now)
        for young in born:
            heapq.heappush(queue, (-total[young], young))
    return merges


class Readable:
    """Encodes a text chunk by chunk; what a short chunk became is remembered, since few words are new.

    order: the byte of each of the first 256 ids.
    """

    def __init__(
        self, order: bytes, ranks: Mapping[Pair, int], split: Callable[[str], list[str]] = lambda text: [text]
    ) -> None:
        self.ranks = ranks
        self.split = split
        self._first = {byte: place for place, byte in enumerate(order)}
        self._known: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        """The ids of `text`. UnicodeEncodeError for what UTF-8 has no bytes for."""
        ids: list[int] = []
        for chunk in self.split(text):
            found = self._known.get(chunk)
            if found is None:
                found = self.chunk(chunk.encode())
                if len(chunk) < 64 and len(self._known) < 1 << 18:
                    self._known[chunk] = found
            ids += found
        return ids

    def chunk(self, chunk: bytes) -> list[int]:
        """The ids of bytes that are not split."""
        return encode([self._first[byte] for byte in chunk], self.ranks)
