"""Dense local readout: a frame's SCF tokens look up the keyframe's, and where they find themselves is read out.

Two pooled pose tokens carry too little to measure a rotation (the paper's RRE is its weak column). Here each
token of the frame attends to all tokens of the keyframe; besides features it collects where they lie (viewing
ray and log depth), which makes the attention a soft correspondence and its displacement a direct measurement.

Shapes: B batch, N tokens of the frame, M of the keyframe, D channels here, C of the SCF, H heads, E = D / H.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remov3r.config import Config
from remov3r.models.attention import Mlp
from remov3r.models.rays import ray_code, ray_map

PLACE = 3  # x/z, y/z, log z


class DenseReadoutConfig(Config):
    """Dense local readout."""

    dim: int = 128
    depth: int = 2
    heads: int = 4
    mlp_ratio: int = 2


@dataclass(frozen=True)
class FrameTokens:
    """A frame's SCF tokens B N C, and where each lies: B N 3, x/z, y/z and log depth in metres."""

    scf_BNC: Tensor
    place_BN3: Tensor

    def flatten(self) -> FrameTokens:
        """Join the clip and frame axes of tokens B T N C."""
        return FrameTokens(self.scf_BNC.flatten(0, 1), self.place_BN3.flatten(0, 1))

    def of(self, index_BT: Tensor) -> FrameTokens:
        """Take, for each frame of clips B T N C, the tokens of another frame of its clip."""
        clip_B1 = torch.arange(len(index_BT), device=index_BT.device)[:, None]
        return FrameTokens(self.scf_BNC[clip_B1, index_BT], self.place_BN3[clip_B1, index_BT])


def token_places(depth_m_Bhw: Tensor, K_B33: Tensor, stride: int) -> Tensor:
    """Place the tokens of a grid of `stride` input pixels, B N 3, by the depth at half the input size."""
    cells = F.avg_pool2d(depth_m_Bhw.detach().log()[:, None], stride // 2)
    rays = ray_map(K_B33, int(cells.shape[2]), int(cells.shape[3]), stride)
    return torch.cat([rays, cells.to(rays.dtype)], 1).flatten(2).transpose(1, 2)


class MatchingBlock(nn.Module):
    """Cross-attention that also returns where its keys lie, then an MLP."""

    def __init__(self, config: DenseReadoutConfig) -> None:
        super().__init__()
        dim, self.heads = config.dim, config.heads
        self.norm, self.key_norm, self.mlp_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim + PLACE * self.heads, dim)
        self.mlp = Mlp(dim, config.mlp_ratio * dim)

    def _split(self, x_BND: Tensor) -> Tensor:
        return x_BND.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call]

    def forward(
        self, x_BND: Tensor, place_BN3: Tensor, key_BMD: Tensor, key_place_BM3: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return updated tokens and each head's displacement from token to match, B N 3H."""
        q_BHNE = self._split(self.query(self.norm(x_BND)))
        k_BMD, v_BMD = self.key_value(self.key_norm(key_BMD)).chunk(2, -1)
        score_BHNM = q_BHNE @ self._split(k_BMD).transpose(-1, -2) * q_BHNE.shape[-1] ** -0.5
        weight_BHNM = score_BHNM.float().softmax(-1)
        found_BHN3 = weight_BHNM @ key_place_BM3[:, None]
        moved_BNF = (found_BHN3 - place_BN3[:, None]).transpose(1, 2).flatten(2)
        v_BHNE = weight_BHNM.to(v_BMD.dtype) @ self._split(v_BMD)
        y_BND = torch.cat([v_BHNE.transpose(1, 2).flatten(2), moved_BNF.to(v_BMD.dtype)], -1)
        x_BND = x_BND + self.out(y_BND)
        return x_BND + self.mlp(self.mlp_norm(x_BND)), moved_BNF


class DenseReadout(nn.Module):
    """Tokens of a frame and of its keyframe to one vector B D."""

    def __init__(self, config: DenseReadoutConfig, scf_dim: int) -> None:
        super().__init__()
        self.config = config
        self.tokens_in = nn.Linear(scf_dim, config.dim)
        self.depth_in = nn.Linear(1, config.dim)
        self.blocks = nn.ModuleList(MatchingBlock(config) for _ in range(config.depth))
        self.pool = nn.Linear(config.dim, config.heads)
        self.norm = nn.LayerNorm(config.dim)
        moves = PLACE * config.heads * config.heads  # each block's displacement under each pooling
        self.out = nn.Linear(config.heads * config.dim + moves, config.dim)

    def _embed(self, tokens: FrameTokens) -> Tensor:
        rays_B2N1 = tokens.place_BN3[..., :2].transpose(1, 2)[..., None]
        code_BND = ray_code(rays_B2N1, self.config.dim)
        return self.tokens_in(tokens.scf_BNC) + self.depth_in(tokens.place_BN3[..., 2:]) + code_BND

    def forward(self, frame: FrameTokens, keyframe: FrameTokens) -> Tensor:
        """Compare a frame with its keyframe."""
        x_BND, key_BMD = self._embed(frame), self._embed(keyframe)
        moved_BNF = x_BND
        for block in self.blocks:
            x_BND, moved_BNF = block(x_BND, frame.place_BN3, key_BMD, keyframe.place_BN3)
        x_BND = self.norm(x_BND)
        weight_BPN = self.pool(x_BND).float().softmax(1).transpose(1, 2)
        pooled = [(weight_BPN.to(y.dtype) @ y).flatten(1) for y in (x_BND, moved_BNF)]
        return self.out(torch.cat([pooled[0], pooled[1].to(pooled[0].dtype)], -1))
