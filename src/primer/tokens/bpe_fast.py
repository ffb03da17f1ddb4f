"""The same ids and the same merges as `pairs`, through the field's libraries: tiktoken encodes, rustbpe learns.

Both are of the extra [fast], and imported when they are first needed (ImportError where they are not there).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from primer.tokens.pairs import Pair
from primer.tokens.patterns import PATTERNS, QUICK, PatternName
from primer.tokens.tokenizer import END_OF_TEXT, Ids
from primer.tokens.vocabulary import pairs_of


def encoder(tokens: Sequence[bytes], pattern: PatternName, end_of_text: int) -> Callable[..., Ids]:
    """A function that encodes with tiktoken (https://github.com/openai/tiktoken).

    By default nothing in a text is special; with `allowed_special={END_OF_TEXT}`, that is the id `end_of_text`.

    tiktoken joins neighbours whose bytes are a token, the smallest id first; `vocabulary.check_reachable` is what makes
    that the same as merging pairs. UnicodeEncodeError for what UTF-8 has no bytes for.
    """
    import tiktoken

    encoding = tiktoken.Encoding(
        "primer",
        pat_str=QUICK[pattern],
        mergeable_ranks={token: place for place, token in enumerate(tokens)},
        special_tokens={END_OF_TEXT: end_of_text},  # without any it searches at every character
    )
    return partial(encoding.encode_to_numpy, disallowed_special=())


def learn(texts: Iterable[str], count: int, pattern: PatternName) -> list[Pair]:
    """What `pairs.train_chunks` learns from `texts`, with rustbpe (https://github.com/karpathy/rustbpe), on all cores.

    Its rule for pairs that occur equally often is ours: the smaller ids. (So is that of the `tokenizers` library, which
    numbers the bytes in another order.) UnicodeEncodeError for what UTF-8 has no bytes for.
    """
    import rustbpe

    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), 256 + count, pattern=PATTERNS[pattern])
    ranks = sorted(trainer.get_mergeable_ranks(), key=lambda each: each[1])
    return pairs_of([bytes(token) for token, _ in ranks])
