"""Is a small GPT worth its trouble? `python benchmarks/kneser_ney.py [--save]`, about ten minutes on two cores.

Tiny Shakespeare, cut into the tokens of a byte-level BPE that was trained on its training part. A GPT-2-shaped model
(learned positions, LayerNorm before each sublayer, GELU, tied head) against an interpolated, modified Kneser–Ney 5-gram
(Chen & Goodman 1999): the same tokens to learn from, the same tokens to predict. The GPT is that of the last step; its
dropout, weight decay and average were chosen by this very loss, among some eight runs between 4.14 and 4.39 nats.
Must: ≥ 0.15 nats a token better. Needs $PRIMER_DATA.
"""

import argparse
import math
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import primer
from primer.assets import write_atomically
from primer.data.prepare import prepare
from primer.tokens.bpe import BPETokenizer
from receipt import write

MEASURED = ("src/primer", "benchmarks/kneser_ney.py")
VOCABULARY = 2048
ORDER = 5
FLAGS = {
    "model.context_length": 128,
    "model.d_model": 128,
    "model.n_layers": 4,
    "model.n_heads": 4,
    "model.vocab_multiple": 1,
    "model.embedding_dropout": 0.0,
    "model.attention_dropout": 0.15,
    "model.feed_forward_dropout": 0.15,
    "optim.name": "muon",
    "optim.muon_lr": 0.02,
    "optim.muon_weight_decay": 0.1,
    "optim.lr": 3e-3,
    "schedule.shape": "linear",
    "schedule.warmup": 50,
    "schedule.final": 0.0,
    "train.weight_average": 0.99,
    "data.validation_fraction": 0.1,
    "data.order": "epochs",
    "train.steps": 2000,
    "train.batch_size": 16,
    "train.evaluate_every": 100,
    "train.evaluate_tokens": 0,
    "train.sample_every": 0,
    "train.checkpoint_every": 400,
    "sample.prompt": "\n",
}


class KneserNey:
    """p(w | h) = max(c(hw) − D, 0) / c(h) + γ(h)·p(w | h without its first token), down to 1 / V.

    c: for the longest contexts how often, for shorter ones after how many different tokens. D depends on c: one of
    three discounts an order, estimated from how many n-grams occur once to four times (Chen & Goodman 1999, eq. 26).
    """

    def __init__(self, tokens: Sequence[int], vocabulary: int, order: int) -> None:
        self.vocabulary, self.order = vocabulary, order
        grams = Counter(tuple(tokens[i : i + order]) for i in range(len(tokens) - order + 1))
        self.levels: list[tuple[dict[tuple[int, ...], Counter[int]], list[float]]] = []
        for _ in range(order):
            following: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
            for gram, count in grams.items():
                following[gram[:-1]][gram[-1]] = count
            self.levels.append((dict(following), discounts(grams.values())))
            shorter = Counter(gram[1:] for gram in grams)  # each distinct longer one counts once
            grams = shorter

    def p(self, history: tuple[int, ...], token: int) -> float:
        """The probability of `token` after the last order − 1 tokens of `history`."""
        probability = 1 / self.vocabulary
        for n in range(self.order):  # from no context to the longest
            following, by_count = self.levels[self.order - 1 - n]
            seen = following.get(history[len(history) - n :])
            if seen is None:
                continue
            total = seen.total()
            kept = [min(count, 3) for count in seen.values()]
            gamma = sum(by_count[count] for count in kept) / total
            count = seen.get(token, 0)
            probability = max(count - by_count[min(count, 3)], 0) / total + gamma * probability
        return probability

    def loss(self, tokens: Sequence[int]) -> float:
        """Mean −log p of every token but the first, in nats."""
        total = 0.0
        for place in range(1, len(tokens)):
            history = tuple(tokens[max(0, place - self.order + 1) : place])
            total -= math.log(self.p(history, tokens[place]))
        return total / (len(tokens) - 1)


def discounts(counts: Any) -> list[float]:
    """D(0) = 0, D(1), D(2), D(3 and more)."""
    often = Counter(min(count, 5) for count in counts)
    n1, n2, n3, n4 = (max(often[k], 1) for k in range(1, 5))
    y = n1 / (n1 + 2 * n2)
    return [0.0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, max(3 - 4 * y * n4 / n3, 0.1)]


def check() -> None:
    """What follows any context has probabilities that add up to one, and a trigram by hand."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(7, size=400).tolist()
    for order in (1, 2, 3, 5):
        model = KneserNey(tokens, 7, order)
        for history in ((), (3,), (1, 2), tuple(tokens[10:14]), (6, 6, 6, 6)):
            assert abs(sum(model.p(history, token) for token in range(7)) - 1) < 1e-12, "not a distribution"
    model = KneserNey([0, 1, 0, 1, 0, 2], 3, 2)
    following, by_count = model.levels[0]
    assert following[(0,)] == Counter({1: 2, 2: 1})
    unigram = model.levels[1][0][()]
    assert unigram == Counter({0: 1, 1: 1, 2: 1}), "continuations, not counts"
    lower = max(1 - model.levels[1][1][1], 0) / 3 + 3 * model.levels[1][1][1] / 3 / 3
    expected = max(2 - by_count[2], 0) / 3 + (by_count[2] + by_count[1]) / 3 * lower
    assert abs(model.p((0,), 1) - expected) < 1e-12


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=FLAGS["train.steps"])
    parser.add_argument("--seed", type=int, default=1337)
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results/kneser_ney.json"
    )
    options = parser.parse_args()
    check()
    text = (Path(os.environ["PRIMER_DATA"]) / "shakespeare" / "input.txt").read_text(encoding="utf-8")
    tokenizer = BPETokenizer.train([text[: int(0.9 * len(text))]], vocab_size=VOCABULARY)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.json"
        write_atomically(file, tokenizer.to_json())
        fraction = float(FLAGS["data.validation_fraction"])
        shards = prepare("shakespeare", tokenizer=tokenizer, validation_fraction=fraction)
        train, validation = (
            np.asarray(shards.tokens(split)[:]).tolist() for split in ("train", "validation")
        )
        n_gram = KneserNey(train, tokenizer.vocab_size, ORDER).loss(validation)
        flags = {
            **FLAGS,
            "data.source": "shakespeare",
            "data.tokenizer": str(file),
            "train.steps": options.steps,
            "seed": options.seed,
        }
        run = primer.train("gpt2-124m", flags=flags, runs_dir=folder)
        score = primer.load(run, checkpoint="latest").evaluate()
        assert run.directory.read_facts()["data"]["fingerprint"] == shards.fingerprint, "the same tokens"
        assert score["tokens"] == len(validation) - 1
        seconds = run.metrics()[-1].get("seconds") or run.metrics()[-2]["seconds"]
    figures = {
        "tokens": {"vocabulary": tokenizer.vocab_size, "train": len(train), "validation": len(validation)},
        "kneser_ney_nats": round(n_gram, 4),
        "gpt_nats": round(score["loss"], 4),
        "better_by": round(n_gram - score["loss"], 4),
        "gpt_bits_per_byte": round(score["bits_per_byte"], 4),
        "training_seconds": round(seconds, 1),
        "seed": options.seed,
        "flags": {key: value for key, value in flags.items() if key != "data.tokenizer"},
    }
    Console().print(figures)
    if options.save:
        print(write("kneser_ney", figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
