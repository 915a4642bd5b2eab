"""Pre-norm attention blocks, shared by the pointmap encoder, the fusion and the two states.

Shapes: B batch, N queries, M keys, D channels, H heads, E = D / H.
"""

from __future__ import annotations

from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention of x onto a context; keys and values can be kept between calls."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def _split(self, x_BND: Tensor) -> Tensor:
        return x_BND.view(*x_BND.shape[:2], self.heads, -1).transpose(1, 2)

    def keys_values(self, context_BMD: Tensor) -> tuple[Tensor, Tensor]:
        """Project a context to its keys and values, both B H M E."""
        k_BMD, v_BMD = self.key_value(context_BMD).chunk(2, -1)
        return self._split(k_BMD), self._split(v_BMD)

    def attend(self, x_BND: Tensor, k_BHME: Tensor, v_BHME: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attend with given keys and values; `bias` (… H N M) is added to the scores, -inf hides."""
        # Written out: on CPUs torch's fused kernel trains two to three times slower at these sizes.
        q_BHNE = self._split(self.query(x_BND)) * (x_BND.shape[-1] // self.heads) ** -0.5
        score_BHNM = q_BHNE @ k_BHME.transpose(-1, -2)
        if bias is not None:
            score_BHNM = score_BHNM + bias
        y_BHNE = score_BHNM.softmax(-1).to(v_BHME.dtype) @ v_BHME
        return self.out(y_BHNE.transpose(1, 2).flatten(2))

    def forward(self, x_BND: Tensor, context_BMD: Tensor, bias: Tensor | None = None) -> Tensor:
        """Attend from x to the context."""
        return self.attend(x_BND, *self.keys_values(context_BMD), bias)


class Mlp(nn.Sequential):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__(nn.Linear(dim, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, out or dim))


class SelfBlock(nn.Module):
    """Self-attention, then an MLP, both pre-norm and residual."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp = Mlp(dim, mlp_ratio * dim)

    def forward(self, x_BND: Tensor, bias: Tensor | None = None) -> Tensor:
        """Let the tokens see each other, as far as `bias` allows."""
        y_BND = self.norm(x_BND)
        x_BND = x_BND + self.attention(y_BND, y_BND, bias)
        return x_BND + self.mlp(self.mlp_norm(x_BND))
