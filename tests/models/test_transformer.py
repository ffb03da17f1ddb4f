"""The encoder–decoder against torch.nn.Transformer, against the paper's figures, and against itself token by token."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from primer.errors import UsageError
from primer.models.config import TransformerConfig
from primer.models.count import parameters
from primer.models.transformer import Transformer
from primer.nn.positions import sinusoids
from primer.nn.probe import probes
from primer.shapes import PADDING

SIZES: dict[str, Any] = {"vocab_size": 40, "context_length": 16, "d_model": 16, "n_heads": 4, "d_ff": 24}


def small(**changes: Any) -> Transformer:
    torch.manual_seed(0)
    options: dict[str, Any] = {**SIZES, "n_layers": 2, "dropout": 0.0, **changes}
    return Transformer(TransformerConfig(**options)).double()


def ids(*lengths: int, vocabulary: int = 40) -> Tensor:
    """Rows of these lengths, padded to the longest."""
    torch.manual_seed(sum(lengths))
    rows = torch.randint(vocabulary, (len(lengths), max(lengths)))
    for row, length in zip(rows, lengths, strict=True):
        row[length:] = PADDING
    return rows


def torchs(model: Transformer) -> nn.Transformer:
    """torch.nn.Transformer with this model's weights (it has final norms only where they are before sublayers)."""
    config = model.config
    first = config.norm == "pre"
    layer: dict[str, Any] = {
        "d_model": config.d_model,
        "nhead": config.n_heads,
        "dim_feedforward": config.d_ff,
        "dropout": 0.0,
        "batch_first": True,
        "norm_first": first,
    }
    norms = [nn.LayerNorm(config.d_model) if first else None for _ in range(2)]
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**layer), config.n_layers, norms[0], enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**layer), config.n_layers, norms[1])
    theirs = nn.Transformer(**layer, custom_encoder=encoder, custom_decoder=decoder).double()
    state = {}
    for stack, norm_names in (
        ("encoder", ("attention_norm", "feed_forward_norm")),
        ("decoder", ("attention_norm", "cross_attention_norm", "feed_forward_norm")),
    ):
        for number, ours in enumerate(getattr(model, stack)):
            here = f"{stack}.layers.{number}"
            for kind in ("weight", "bias"):
                state[f"{here}.self_attn.in_proj_{kind}"] = getattr(ours.attention.qkv, kind)
                state[f"{here}.self_attn.out_proj.{kind}"] = getattr(ours.attention.output, kind)
                state[f"{here}.linear1.{kind}"] = getattr(ours.feed_forward.expand, kind)
                state[f"{here}.linear2.{kind}"] = getattr(ours.feed_forward.contract, kind)
                for place, name in enumerate(norm_names, start=1):
                    state[f"{here}.norm{place}.{kind}"] = getattr(getattr(ours, name), kind)
                if stack == "decoder":
                    cross = ours.cross_attention
                    both = [getattr(part, kind) for part in (cross.queries, cross.keys_values)]
                    state[f"{here}.multihead_attn.in_proj_{kind}"] = torch.cat(both)
                    state[f"{here}.multihead_attn.out_proj.{kind}"] = getattr(cross.output, kind)
        if first:
            for kind in ("weight", "bias"):
                state[f"{stack}.norm.{kind}"] = getattr(getattr(model, f"{stack}_norm"), kind)
    theirs.load_state_dict(state)
    return theirs


def shuffled(model: Transformer) -> Transformer:
    """The same with gains and biases that are not ones and zeros, so that each of them matters."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("lengths", [((7, 7, 7), (5, 5, 5)), ((7, 4, 1), (5, 2, 5)), ((2,), (9,))])
def test_logits_are_torchs(norm: str, lengths: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """With padding in both languages and the causal mask, from the same weights, in float64; gradients too."""
    model = shuffled(small(norm=norm, attention_bias=True))
    theirs = torchs(model)
    source, target = ids(*lengths[0]), ids(*lengths[1])
    found = model(source, target)
    table = model.embedding.tokens.weight

    def embedded(tokens: Tensor) -> Tensor:  # §3.4 and §3.5, once more
        return table[tokens.clamp(min=0)] * 16**0.5 + sinusoids(tokens.shape[1], 16)

    hidden = theirs(
        embedded(source),
        embedded(target),
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=torch.float64),
        src_key_padding_mask=source == PADDING,
        memory_key_padding_mask=source == PADDING,
        tgt_is_causal=True,
    )
    real = target != PADDING
    torch.testing.assert_close(found[real], (hidden @ table.T)[real], rtol=1e-9, atol=1e-9)
    weights = torch.randn_like(found[real])
    (mine,) = torch.autograd.grad((found[real] * weights).sum(), table, retain_graph=True)
    (other,) = torch.autograd.grad(((hidden @ table.T)[real] * weights).sum(), table)
    torch.testing.assert_close(mine.to_dense(), other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": "pre"},
        {"d_k": 3, "positions": "learned"},
        {"attention_bias": True, "n_layers": 3},
    ],
)
def test_parameters_are_those_of_the_formula(changes: dict[str, Any]) -> None:
    model = small(**changes)
    assert parameters(model.config) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("name", "millions"), [("base", 65), ("big", 213)])
def test_parameters_are_those_of_the_paper(name: str, millions: int) -> None:
    """Table 3 prints 65 and 213 million, for a shared vocabulary of about 37,000 tokens (§5.1)."""
    count = parameters(TransformerConfig.preset(name, vocab_size=37_000))
    assert abs(count / (millions * 1e6) - 1) < 0.035


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="basse") as error:
        TransformerConfig.preset("basse")
    assert error.value.hint == "base"


def test_padding_changes_nothing() -> None:
    """A row's logits and gradients are those that it has alone, whatever it is padded to."""
    model = small()
    source, target = ids(9, 4), ids(6, 3)
    both = model(source, target)
    for row, (s, t) in enumerate(((9, 6), (4, 3))):
        alone = model(source[row : row + 1, :s], target[row : row + 1, :t])
        torch.testing.assert_close(both[row, :t], alone[0], rtol=1e-10, atol=1e-10)


def test_no_position_of_the_target_sees_a_later_one_and_all_see_the_source() -> None:
    model = small()
    source, target = ids(6), ids(8)
    before = model(source, target)
    changed = target.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 40
    after = model(source, changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])
    other = source.clone()
    other[0, -1] = (other[0, -1] + 1) % 40
    assert ((model(other, target) - before).abs().amax(-1) > 1e-6).all()


def test_the_loss_is_the_smoothed_one_over_real_targets() -> None:
    """§5.4 with padding left out, by hand: (1 − ε)·(−log p) + ε·mean over the vocabulary of −log p."""
    model = small()
    source, target, targets = ids(9, 4), ids(6, 3), ids(6, 3, vocabulary=30)
    log_p = model(source, target).log_softmax(-1)
    sums = []
    for row, length in enumerate((6, 3)):
        for t in range(length):
            y = int(targets[row, t])
            sums.append(-0.9 * log_p[row, t, y] - 0.1 * log_p[row, t].mean())
    torch.testing.assert_close(
        model(source, target, targets, 0.1), torch.stack(sums).mean(), rtol=1e-10, atol=1e-10
    )


def test_the_loss_in_chunks_is_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    from primer.kernels.cross_entropy import CHUNKS

    model = small()
    batch = ids(9, 4), ids(6, 3), ids(6, 3, vocabulary=30)
    whole = model(*batch, 0.1)
    wanted = torch.autograd.grad(whole, list(model.parameters()))
    monkeypatch.setitem(CHUNKS, "cpu", 100)
    found = model(*batch, 0.1)
    torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(torch.autograd.grad(found, list(model.parameters())), wanted, strict=True):
        torch.testing.assert_close(mine.to_dense(), theirs.to_dense(), rtol=1e-9, atol=1e-10)


def test_embeddings_are_one_matrix_scaled_by_the_root_of_d_model() -> None:
    """§3.4, §3.5: √d_model · E[token] + PE[position], and the logits are the stream times Eᵀ."""
    model = small()
    table = model.embedding.tokens.weight
    tokens = torch.tensor([[3, 7, 3]])
    torch.testing.assert_close(
        model.embedding(tokens), table[tokens] * 4 + sinusoids(3, 16), rtol=0, atol=1e-12
    )
    h = torch.randn(2, 5, 16, dtype=torch.float64)
    assert torch.equal(model.embedding.unembed(h), h @ table.T)
    named = {name for name, p in model.named_parameters() if p.shape == (40, 16)}
    assert named == {"embedding.tokens.weight"}


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("rows", [1, 3])
def test_token_by_token_it_is_the_whole(norm: str, positions: str, rows: int) -> None:
    """With keys and values kept, and several rows of the decoder about each source."""
    model = small(norm=norm, positions=positions, d_k=3).eval()
    source = ids(9, 4)
    target = ids(*[6] * (2 * rows))
    whole = model(source.repeat_interleave(rows, 0), target)
    cache = model.start(source, rows, 6)
    steps = [model.step(target[:, t : t + 1], cache) for t in range(6)]
    torch.testing.assert_close(torch.stack(steps, dim=1), whole, rtol=1e-9, atol=1e-9)


def test_a_cache_goes_on_with_the_rows_that_were_selected() -> None:
    model = small().eval()
    source, target = ids(9, 4, 7), ids(*[5] * 6)
    cache = model.start(source, 2, 5)
    for t in range(3):
        model.step(target[:, t : t + 1], cache)
    rows = torch.tensor([5, 5, 0, 1])  # sources 2 and 0, in another order, one row twice
    cache.select(rows, torch.tensor([2, 0]))
    found = model.step(target[rows, 3:4], cache)
    alone = model(source[[2, 2, 0, 0]], target[rows, :4])[:, -1]
    torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-9)


def test_dropout_stands_where_section_5_4_says() -> None:
    """On every sublayer's output and on both sums of embeddings, nowhere else; and P_drop is its rate."""
    model = small(dropout=0.4)
    active = {name: module.p for name, module in model.named_modules() if getattr(module, "p", 0)}
    layers = [f"encoder.{n}.{part}" for n in range(2) for part in ("attention", "feed_forward")]
    layers += [
        f"decoder.{n}.{part}" for n in range(2) for part in ("attention", "cross_attention", "feed_forward")
    ]
    assert active == dict.fromkeys(["embedding.dropout", *(f"{name}.dropout" for name in layers)], 0.4)


def test_what_is_too_long_or_unknown_is_named() -> None:
    model = small()
    with pytest.raises(UsageError, match="17 tokens do not fit"):
        model(ids(17), ids(3))
    with pytest.raises(UsageError, match="the source has id 40 at position 2"):
        model(torch.tensor([[1, 2, 40]]), ids(3))
    with pytest.raises(UsageError, match="the target has id -2 at position 0"):
        model(ids(3), torch.tensor([[-2, 1]]))


def test_every_place_has_a_name_of_its_own() -> None:
    """And the pattern of cross-attention sums to one over the source, with nothing on its padding."""
    model = small().eval()
    known = probes(model)
    assert {
        "encoder.0.pattern",
        "decoder.1.pattern",
        "decoder.1.cross.pattern",
        "decoder.0.resid_cross",
    } <= set(known)
    seen: dict[str, Tensor] = {}

    def keep(value: Tensor) -> Tensor:
        seen["pattern"] = value
        return value

    known["decoder.1.cross.pattern"].listener = keep
    source, target = ids(9, 4), ids(6, 3)
    heard = model(source, target)
    pattern = seen["pattern"]  # (B, H, T, S)
    assert pattern.shape == (2, 4, 6, 9)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 4, 6, dtype=torch.float64))
    assert not pattern[1, :, :, 4:].any()
    known["decoder.1.cross.pattern"].listener = None
    torch.testing.assert_close(model(source, target), heard, rtol=1e-10, atol=1e-10)


def test_fresh_weights_are_spread_as_in_the_authors_code() -> None:
    """Glorot's bound for each projection of its own, whichever share a matrix; embeddings of deviation d_model^-½."""
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(vocab_size=3000, d_model=64, n_heads=4, d_ff=256, n_layers=1))
    assert model.embedding.tokens.weight.std().item() == pytest.approx(64**-0.5, rel=0.02)
    cross = model.decoder[0].cross_attention
    for weight in (*model.encoder[0].attention.qkv.weight.split(64), *cross.keys_values.weight.split(64)):
        bound = (6 / 128) ** 0.5
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
