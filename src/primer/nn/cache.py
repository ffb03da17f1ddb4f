"""Keys and values of the tokens that were already read, so that writing one more costs one token's work."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from primer.errors import UsageError


class LayerCache:
    """One layer's keys and values, in memory that was taken once: (B, H_kv, context, D) each.

    value_width: that of the values, where it is another than the keys'.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        dtype: torch.dtype,
        device: torch.device | str,
        value_width: int | None = None,
    ) -> None:
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty((*shape[:3], value_width or shape[3]), dtype=dtype, device=device)
        self.length = 0

    def append(
        self, k: Float[Tensor, "B Hkv T D"], v: Float[Tensor, "B Hkv T Dv"]
    ) -> tuple[Float[Tensor, "B Hkv S D"], Float[Tensor, "B Hkv S Dv"]]:
        """Write T new positions behind the old ones and give back all S of them."""
        stop = self.length + k.shape[-2]
        if stop > self.keys.shape[-2]:
            raise UsageError(
                f"the cache holds {self.keys.shape[-2]} positions and was given {stop}",
                hint="start a new window from the last half of the text",
            )
        self.keys[:, :, self.length : stop] = k
        self.values[:, :, self.length : stop] = v
        self.length = stop
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def select(self, rows: Int[Tensor, " N"]) -> None:
        """Go on with these rows, in this order; one may be taken several times, and one that is not is forgotten."""
        for name in ("keys", "values"):
            before = getattr(self, name)
            after = before.new_empty(len(rows), *before.shape[1:])
            after[:, :, : self.length] = before[rows, :, : self.length]
            setattr(self, name, after)


class KeyValueCache:
    """A cache for every layer, and the last tokens for what looks back at them (`nn/ngram.py`)."""

    def __init__(
        self,
        n_layers: int,
        shape: tuple[int, int, int, int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.layers = [LayerCache(shape, dtype, device) for _ in range(n_layers)]
        self.recent: Int[Tensor, "B n"] | None = None

    def remember(self, tokens: Int[Tensor, "B T"], count: int) -> None:
        """Keep the last `count` tokens that were read."""
        if count:
            seen = tokens if self.recent is None else torch.cat([self.recent, tokens], dim=1)
            self.recent = seen[:, -count:]

    @property
    def length(self) -> int:
        """Positions read so far (S)."""
        return self.layers[0].length

    def reset(self) -> None:
        """Forget everything, keep the memory."""
        self.recent = None
        for layer in self.layers:
            layer.length = 0


class DecoderCache:
    """What an encoder–decoder keeps while it writes: the source's keys and values, and those of what it has written.

    Several rows of the decoder may write about the same source (the hypotheses of a beam): row r is about source
    r // (rows / sources).
    """

    def __init__(
        self,
        layers: list[LayerCache],
        memory: list[tuple[Float[Tensor, "B H S D"], Float[Tensor, "B H S Dv"]]],
        seen: Bool[Tensor, "B S"] | None,
    ) -> None:
        self.layers = layers
        self.memory = memory
        self.seen = seen  # None: every place of the source holds a token

    @property
    def length(self) -> int:
        """Positions written so far."""
        return self.layers[0].length

    def select(self, rows: Int[Tensor, " N"], sources: Int[Tensor, " M"] | None = None) -> None:
        """Go on with these rows of the decoder, and (where given) with these sources."""
        for layer in self.layers:
            layer.select(rows)
        if sources is not None:
            self.memory = [(k[sources], v[sources]) for k, v in self.memory]
            self.seen = None if self.seen is None else self.seen[sources]
