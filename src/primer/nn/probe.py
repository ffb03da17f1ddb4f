"""A named place in a model where one can look, or touch."""

from collections.abc import Callable

from torch import Tensor, nn

Listener = Callable[[Tensor], Tensor]

COSTLY = ("attn_scores", "pattern", "logits")
"""Places whose value a model computes as a whole only while someone listens: fused kernels and losses do without."""

STACKS = ("layers", "encoder", "decoder")
"""What models call their lists of layers."""


class Probe(nn.Module):
    """Passes a value through unchanged; while someone listens, the listener's value goes on instead.

    A probe costs one call. What is expensive to have at all (the attention pattern) is computed only while
    `heard` is true.
    """

    def __init__(self) -> None:
        super().__init__()
        self.listener: Listener | None = None

    @property
    def heard(self) -> bool:
        """Whether anyone listens."""
        return self.listener is not None

    def forward(self, value: Tensor) -> Tensor:
        return value if self.listener is None else self.listener(value)


def probes(model: nn.Module) -> dict[str, Probe]:
    """Every probe by its hook name: `layers.3.pattern`, `decoder.0.cross.pattern`, `embed`, `logits`, …

    Inside a layer the names are unique but for those of a decoder's second attention, so the sublayer's name is left
    out, as in the field's vocabulary.
    """
    named = {}
    for path, module in model.named_modules():
        if isinstance(module, Probe):
            parts = path.split(".")
            cross = ["cross"] if "cross_attention" in parts else []
            name = ".".join([*parts[:2], *cross, parts[-1]]) if parts[0] in STACKS else parts[-1]
            assert name not in named, f"two probes called {name}"
            named[name] = module
    return named
