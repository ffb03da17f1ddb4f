"""An outsider's decoder: transformers' MarianMT, which is this encoder–decoder, with its own cache and beam search."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from primer.generation.beam import beam_search
from primer.generation.config import BeamConfig
from primer.models.config import TransformerConfig
from primer.models.transformer import Transformer
from primer.shapes import PADDING

transformers = pytest.importorskip("transformers")

END, WORDS, STEPS = 0, 8, 120


def drawn(count: int, generator: torch.Generator) -> list[list[int]]:
    """Sentences of two to six words."""
    lengths = torch.randint(2, 7, (count,), generator=generator).tolist()
    return [torch.randint(1, WORDS, (length,), generator=generator).tolist() for length in lengths]


def rows(sentences: list[list[int]], fill: int) -> Tensor:
    longest = max(map(len, sentences)) + 1
    return torch.tensor([[*ids, END] + [fill] * (longest - 1 - len(ids)) for ids in sentences])


@pytest.fixture(scope="module")
def ours() -> Transformer:
    """A model that has half learned to write a sentence backwards: sure of its length and of some tokens."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"context_length": 20, "d_model": 16, "n_heads": 2, "d_ff": 32, "n_layers": 2}
    model = Transformer(
        TransformerConfig(vocab_size=WORDS, attention_bias=True, dropout=0.0, **sizes)
    ).double()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        sentences = drawn(32, generator)
        targets = rows([ids[::-1] for ids in sentences], PADDING)
        begin = torch.full_like(targets[:, :1], END)
        loss = model(rows(sentences, PADDING), torch.cat([begin, targets[:, :-1]], dim=1), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def marians(model: Transformer) -> Any:
    """The same weights; their padding is a token of its own, which is never written."""
    c = model.config
    layers = {
        f"{stack}_{name}": value
        for stack in ("encoder", "decoder")
        for name, value in (("layers", c.n_layers), ("attention_heads", c.n_heads), ("ffn_dim", c.d_ff))
    }
    marian = transformers.MarianMTModel(
        transformers.MarianConfig(
            vocab_size=WORDS + 1,
            d_model=c.d_model,
            max_position_embeddings=c.context_length,
            activation_function="relu",
            dropout=0.0,
            scale_embedding=True,
            pad_token_id=WORDS,
            eos_token_id=END,
            decoder_start_token_id=END,
            forced_eos_token_id=None,
            **layers,
        )
    ).double()
    table = torch.cat([model.embedding.tokens.weight, torch.zeros(1, c.d_model, dtype=torch.float64)])
    tables = ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
    state = {"lm_head.weight": table} | {f"model.{name}.weight": table for name in tables}
    state["final_logits_bias"] = torch.tensor([[0.0] * WORDS + [-1e9]], dtype=torch.float64)
    for stack in ("encoder", "decoder"):
        state[f"model.{stack}.embed_positions.weight"] = model.embedding.positions.table.double()
        for number, layer in enumerate(getattr(model, stack)):
            here = f"model.{stack}.layers.{number}"
            parts = {
                "self_attn.out_proj": layer.attention.output,
                "self_attn_layer_norm": layer.attention_norm,
                "fc1": layer.feed_forward.expand,
                "fc2": layer.feed_forward.contract,
                "final_layer_norm": layer.feed_forward_norm,
            }
            put(state, f"{here}.self_attn", "qkv", layer.attention.qkv)
            if stack == "decoder":
                parts["encoder_attn.out_proj"] = layer.cross_attention.output
                parts["encoder_attn_layer_norm"] = layer.cross_attention_norm
                put(state, f"{here}.encoder_attn", "q", layer.cross_attention.queries)
                put(state, f"{here}.encoder_attn", "kv", layer.cross_attention.keys_values)
            for name, part in parts.items():
                state[f"{here}.{name}.weight"], state[f"{here}.{name}.bias"] = part.weight, part.bias
    marian.load_state_dict(state)
    return marian.eval()


def put(state: dict[str, Tensor], place: str, names: str, projection: nn.Linear) -> None:
    """Queries, keys and values, which share a matrix here."""
    for kind in ("weight", "bias"):
        for name, piece in zip(names, getattr(projection, kind).chunk(len(names)), strict=True):
            state[f"{place}.{name}_proj.{kind}"] = piece


@pytest.fixture(scope="module")
def marian(ours: Transformer) -> Any:
    return marians(ours)


@pytest.mark.parametrize("beam", [1, 4])
def test_marian_writes_the_same(ours: Transformer, marian: Any, beam: int) -> None:
    """Forty sentences in one padded batch, without a length penalty, which is another one there.

    (It counts an end only among the K likeliest candidates; of these sentences' best none needs the others.)
    """
    sentences = drawn(40, torch.Generator().manual_seed(1))
    config = BeamConfig(beam=beam, length_penalty=0.0, extra_length=12)
    found = beam_search(ours, rows(sentences, PADDING), end=END, config=config)
    padded = rows(sentences, WORDS)
    search: dict[str, Any] = {"num_beams": beam, "length_penalty": 0.0, "early_stopping": "never"}
    written = marian.generate(
        padded,
        attention_mask=(padded != WORDS).long(),
        do_sample=False,
        max_length=20,
        return_dict_in_generate=True,
        output_scores=True,
        **(search if beam > 1 else {}),
    )
    expected = [
        [token for token in ids[1:] if token not in (END, WORDS)] for ids in written.sequences.tolist()
    ]
    assert [list(best.ids) for (best,) in found] == expected
    assert len({len(ids) for ids in expected}) > 5
    if beam > 1:
        scores = written.sequences_scores.tolist()
        assert [best.log_p for (best,) in found] == pytest.approx(scores, rel=1e-6)  # theirs are in float32
        greedy = beam_search(ours, rows(sentences, PADDING), end=END, config=BeamConfig(beam=1))
        assert sum(best.ids != alone.ids for (best,), (alone,) in zip(found, greedy, strict=True)) > 10
