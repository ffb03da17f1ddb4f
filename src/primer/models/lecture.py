"""The lecture's ladder: from a table of character pairs to a GPT, one idea a rung.

    Bigram             what usually follows this character
    SingleHead         … and which earlier characters matter to it
    MultiHead          … asked in several ways at once
    Blocks             … then thought about, and all of it several times over
    GPTLanguageModel   … with norms, so that it can be deep

The last rung is the script that this project began from: it loads that script's `state_dict`, under the
script's names, and computes the same numbers. The script departs from what it teaches, and the departures
teach something too, so each is an argument here, set as in the script:

    score_scale="n_embd"
        Scores are divided by the root of the model's width, not of the head's. A sum of D independent products
        has a standard deviation of √D (Vaswani et al. 2017, footnote 4): divided by √C, scores start √H times
        too small, and every head starts out looking everywhere alike.
    output_projection=False
        The heads' results are put side by side and added to the stream as they are. Without W^O (ibid., §3.2.2)
        a head can write only to its own slice of the stream.
    declared_sizes=False
        n_layer = n_head = 6 is declared and never read: four blocks of four heads are built.
    dropout_on=True (an argument of `generate`)
        The script samples without `model.eval()`: a fifth of what each layer says is missing in every step, so
        each character comes from another, worse model.

One more is not offered: `torch.save(model)` pickles the module itself. Such a file holds the names of
classes and not their code, so it opens only where the script lies, and opening it runs whatever it says;
see `read_weights`.

Names are the lecture's (n_embd, block_size, head_size: C, context_length and D elsewhere here); `to_gpt`
translates.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from primer.errors import DataError, SurroundingsError
from primer.models.config import GPTConfig

ScoreScale = Literal["n_embd", "head_size"]


@dataclass(frozen=True)
class Lecture:
    """The script's sizes and departures; as given here, they are the script's."""

    vocab_size: int
    block_size: int = 256
    n_embd: int = 384
    n_head: int = 6
    n_layer: int = 6
    dropout: float = 0.2
    score_scale: ScoreScale = "n_embd"
    output_projection: bool = False
    declared_sizes: bool = False

    @property
    def heads(self) -> int:
        """How many heads are built."""
        return self.n_head if self.declared_sizes else 4

    @property
    def blocks(self) -> int:
        """How many blocks are built."""
        return self.n_layer if self.declared_sizes else 4


class LanguageModel(nn.Module):
    """What all rungs share: how wrong a guess is, and how guesses become text. A rung says what
    `logits` is.
    """

    block_size: int

    def logits(self, idx: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """At every position, a score for each character that could come next."""
        raise NotImplementedError

    def forward(
        self, idx: Int[Tensor, "B T"], targets: Int[Tensor, "B T"] | None = None
    ) -> tuple[Float[Tensor, "B T V"], Float[Tensor, ""] | None]:
        """Logits and, where `targets` are known, the mean of −log p(target): log V for a guess at
        random.
        """
        logits = self.logits(idx)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def generate(
        self,
        idx: Int[Tensor, "B T"],
        max_new_tokens: int = 500,
        *,
        dropout_on: bool = True,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "B N"]:
        """`idx` with `max_new_tokens` characters more, each drawn from what the last `block_size` suggest.

        The whole window is computed anew for each of them (`generation.decode` does not).
        """
        mode = self.training
        self.train(dropout_on)
        for _ in range(max_new_tokens):
            last = self.logits(idx[:, -self.block_size :])[:, -1]  # (B, V)
            drawn = torch.multinomial(last.softmax(dim=-1), num_samples=1, generator=generator)
            idx = torch.cat([idx, drawn], dim=1)
        self.train(mode)
        return idx


class Bigram(LanguageModel):
    """First rung: row i of a table scores what follows character i. No position sees another."""

    def __init__(self, sizes: Lecture) -> None:
        super().__init__()
        self.block_size = 1
        self.table = nn.Embedding(sizes.vocab_size, sizes.vocab_size)

    def logits(self, idx: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        return self.table(idx)


class Head(nn.Module):
    """One head of self-attention: each position takes from earlier ones what it asks for.

    query: what am I looking for? key: what do I have? Their product scores how well two positions fit,
    and softmax turns a row of scores into weights. value: what do I give, if someone looks at me?
    """

    tril: Tensor

    def __init__(
        self,
        n_embd: int,
        head_size: int,
        block_size: int,
        dropout: float = 0.0,
        score_scale: ScoreScale = "n_embd",
    ) -> None:
        super().__init__()
        self.key = nn.Linear(n_embd, head_size, bias=False)
        self.query = nn.Linear(n_embd, head_size, bias=False)
        self.value = nn.Linear(n_embd, head_size, bias=False)
        self.register_buffer("tril", torch.ones(block_size, block_size).tril())
        self.dropout = nn.Dropout(dropout)
        self.scale = {"n_embd": n_embd, "head_size": head_size}[score_scale] ** -0.5

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T D"]:
        T = x.shape[1]
        scores = self.query(x) @ self.key(x).mT * self.scale  # (B, T, T)
        past = self.tril[:T, :T].bool()  # no position may look at a later one: that is what it has to guess
        weights = scores.masked_fill(~past, -torch.inf).softmax(dim=-1)
        return self.dropout(weights) @ self.value(x)


class SingleHead(LanguageModel):
    """Second rung: characters and places become vectors, one head lets them talk."""

    def __init__(self, sizes: Lecture) -> None:
        super().__init__()
        self.block_size = sizes.block_size
        self.emb_table = nn.Embedding(sizes.vocab_size, sizes.n_embd)
        self.positional_embd_table = nn.Embedding(sizes.block_size, sizes.n_embd)
        self.head: nn.Module = Head(
            sizes.n_embd, sizes.n_embd, sizes.block_size, sizes.dropout, sizes.score_scale
        )
        self.lm_head = nn.Linear(sizes.n_embd, sizes.vocab_size)

    def logits(self, idx: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        places = torch.arange(idx.shape[1], device=idx.device)
        return self.lm_head(self.head(self.emb_table(idx) + self.positional_embd_table(places)))


class MultiHeadAttention(nn.Module):
    """Several heads side by side: each is narrower, asks its own question, and fills its own slice of
    the result.
    """

    def __init__(self, sizes: Lecture) -> None:
        super().__init__()
        C, D = sizes.n_embd, sizes.n_embd // sizes.heads
        self.heads = nn.ModuleList(
            Head(C, D, sizes.block_size, sizes.dropout, sizes.score_scale) for _ in range(sizes.heads)
        )
        self.proj = nn.Linear(C, C) if sizes.output_projection else nn.Identity()

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return self.proj(torch.cat([head(x) for head in self.heads], dim=-1))


class MultiHead(SingleHead):
    """Third rung: as the second, with several heads."""

    def __init__(self, sizes: Lecture) -> None:
        super().__init__(sizes)
        self.head = MultiHeadAttention(sizes)


class FeedForward(nn.Module):
    """After listening, thinking: each position by itself, four times as wide for a moment."""

    def __init__(self, n_embd: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_embd, 4 * n_embd), nn.ReLU(), nn.Linear(4 * n_embd, n_embd), nn.Dropout(dropout)
        )

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return self.net(x)


class Block(nn.Module):
    """Listen, then think; each adds to what was there, so that gradients find an open road (He et al. 2015).

    With `norm` both read a normalised stream. The 2017 paper normalises after adding; before is GPT-2's way.
    """

    def __init__(self, sizes: Lecture, *, norm: bool = True) -> None:
        super().__init__()
        self.sa_head = MultiHeadAttention(sizes)
        self.ffwd = FeedForward(sizes.n_embd, sizes.dropout)
        self.ln1 = nn.LayerNorm(sizes.n_embd) if norm else nn.Identity()
        self.ln2 = nn.LayerNorm(sizes.n_embd) if norm else nn.Identity()

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        x = x + self.sa_head(self.ln1(x))
        return x + self.ffwd(self.ln2(x))


class Blocks(LanguageModel):
    """Fourth rung: block upon block. `norm` is what the fifth rung adds."""

    norm = False

    def __init__(self, sizes: Lecture) -> None:
        super().__init__()
        self.block_size = sizes.block_size
        self.emb_table = nn.Embedding(sizes.vocab_size, sizes.n_embd)
        self.positional_embd_table = nn.Embedding(sizes.block_size, sizes.n_embd)
        blocks: list[nn.Module] = [Block(sizes, norm=self.norm) for _ in range(sizes.blocks)]
        self.block = nn.Sequential(*blocks, *([nn.LayerNorm(sizes.n_embd)] if self.norm else []))
        self.lm_head = nn.Linear(sizes.n_embd, sizes.vocab_size)

    def logits(self, idx: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        places = torch.arange(idx.shape[1], device=idx.device)
        x = self.emb_table(idx) + self.positional_embd_table(places)  # (B, T, C)
        return self.lm_head(self.block(x))


class GPTLanguageModel(Blocks):
    """Fifth rung: the script's model. Norms before each sublayer and after the last block."""

    norm = True


def read_weights(path: Path) -> dict[str, Tensor]:
    """The `state_dict` in a .pt file; nothing in the file is executed.

    DataError for anything else, above all for the module that the script pickles.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), hint="look at its name") from error
    except PermissionError as error:
        raise SurroundingsError("no permission to read this", str(path), f"chmod u+r '{path}'") from error
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise DataError(
            "not a file of tensors alone, and opening anything else would run the code in it",
            where=str(path),
            hint='save weights in the script: torch.save(model.state_dict(), "model.pt")',
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataError(
            "the file holds tensors, but no state_dict",
            where=str(path),
            hint='save weights in the script: torch.save(model.state_dict(), "model.pt")',
        )
    return state


def to_gpt(
    state: Mapping[str, Tensor], *, score_scale: ScoreScale = "n_embd", dropout: float = 0.2
) -> tuple[GPTConfig, dict[str, Tensor]]:
    """The script's weights as those of `models.gpt.GPT`: a config, and weights that give the same logits.

    Sizes are read off the tensors; `score_scale` and `dropout` are not in them. DataError where a name is
    missing or left over. The H separate heads become one matrix, all queries above all keys above all
    values.
    """
    left = {name.removeprefix("_orig_mod.").removeprefix("module."): tensor for name, tensor in state.items()}
    blocks = 1 + max((int(name.split(".")[1]) for name in left if name.endswith(".ln1.weight")), default=-1)
    heads = sum(name.startswith("block.0.sa_head.heads.") and name.endswith(".key.weight") for name in left)

    def take(name: str) -> Tensor:
        if name not in left:
            raise DataError(f"these are no weights of the lecture's model: {name} is missing")
        return left.pop(name)

    new = {
        "token_embedding.weight": take("emb_table.weight"),
        "position_embedding.weight": take("positional_embd_table.weight"),
    }
    for i in range(blocks):
        old, layer = f"block.{i}", f"layers.{i}"
        rows = [
            take(f"{old}.sa_head.heads.{h}.{part}.weight")
            for part in ("query", "key", "value")
            for h in range(heads)
        ]
        new[f"{layer}.attention.qkv.weight"] = torch.cat(rows)
        pairs = {"ln1": "attention_norm", "ln2": "feed_forward_norm"}
        pairs |= {"ffwd.net.0": "feed_forward.expand", "ffwd.net.2": "feed_forward.contract"}
        if f"{old}.sa_head.proj.weight" in left:
            pairs["sa_head.proj"] = "attention.output"
        for theirs, ours in pairs.items():
            for part in ("weight", "bias"):
                new[f"{layer}.{ours}.{part}"] = take(f"{old}.{theirs}.{part}")
    for theirs, ours in ((f"block.{blocks}", "final_norm"), ("lm_head", "head")):
        for part in ("weight", "bias"):
            new[f"{ours}.{part}"] = take(f"{theirs}.{part}")
    if extra := [name for name in left if not name.endswith(".tril")]:  # the mask is no weight
        raise DataError(f"these are no weights of the lecture's model: {extra[0]} has no place in it")

    config = GPTConfig(
        vocab_size=new["token_embedding.weight"].shape[0],
        context_length=new["position_embedding.weight"].shape[0],
        d_model=new["token_embedding.weight"].shape[1],
        n_layers=blocks,
        n_heads=heads,
        activation="relu",
        qkv_bias=False,
        head_bias=True,
        attention_scale="d_model" if score_scale == "n_embd" else "d_head",
        attention_output="layers.0.attention.output.weight" in new,
        pattern_dropout=dropout,
        feed_forward_dropout=dropout,
        init="torch",
    )
    return config, new
