"""How surprised a model was by what came next."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(
    logits: Float[Tensor, "*B V"], targets: Int[Tensor, "*B"], *, label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Mean over all targets of −log p(target), in nats.

    With `label_smoothing` ε the target distribution is (1 − ε) on the target and ε / V everywhere
    (Szegedy et al. 2016, §7; Vaswani et al. 2017, §5.4). Computed in float32 whatever the logits are.
    """
    return F.cross_entropy(
        logits.flatten(0, -2).float() if logits.dtype.itemsize < 4 else logits.flatten(0, -2),
        targets.flatten(),
        label_smoothing=label_smoothing,
    )
