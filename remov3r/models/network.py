"""The network of the paper's figure 1, assembled; each box is a module of its own file.

Shapes: B batch, T frames, H W input size (multiples of `size_multiple`), h w = H/2 W/2, N SCF tokens,
D channels of the pose embedding, 7 = x y z qx qy qz qw (unit quaternion).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from remov3r.errors import ShapeError
from remov3r.models.boxes import NetworkConfig, build_encoder, build_heads, build_prior, head_levels
from remov3r.models.dense_readout import FrameTokens, token_places
from remov3r.models.depth_prior import LOG_DEPTH_RANGE
from remov3r.models.features import VisualFeatures
from remov3r.models.fusion import Fusion
from remov3r.models.global_state import GlobalState
from remov3r.models.heads import points_on_rays
from remov3r.models.keyframes import checked_keyframes, select_keyframes
from remov3r.models.local_state import LocalState
from remov3r.models.pointmap_encoder import PointmapEncoder
from remov3r.models.scale_shift import ScaleShift

OUTPUT_STRIDE = 2  # input pixels to a side of one of the dense geometry's


@dataclass(frozen=True)
class FrameFeatures:
    """What every frame pays for, and all that the dense heads and the states need later.

    Attributes:
        scf: tokens B N D of the fusion's levels; the last are the SCF embeddings.
    """

    K_B33: Tensor
    visual: VisualFeatures
    log_prior_Bhw: Tensor
    scf: tuple[Tensor, ...]
    pose_embedding_BD: Tensor


@dataclass(frozen=True)
class DepthOutput:
    """Dense geometry of single frames; depth in metres, confidences above 0."""

    prior_depth_m: Float[Tensor, "b h w"]
    depth_m: Float[Tensor, "b h w"]
    depth_confidence: Float[Tensor, "b h w"]
    points_cam: Float[Tensor, "b h w 3"]
    points_confidence: Float[Tensor, "b h w"]


@dataclass(frozen=True)
class ClipOutput:
    """Everything about clips; `keyframe_index` counts within the clip, `T_world_key` is the keyframe's.

    Attributes:
        local_cholesky: lower triangular, times its transpose the covariance of T_key_cam (rotation in rad,
            then translation in m, in the camera's frame); None without that head, meaningless on keyframes.
    """

    prior_depth_m: Float[Tensor, "b t h w"]
    depth_m: Float[Tensor, "b t h w"]
    depth_confidence: Float[Tensor, "b t h w"]
    points_cam: Float[Tensor, "b t h w 3"]
    points_confidence: Float[Tensor, "b t h w"]
    pose_embedding: Float[Tensor, "b t d"]
    keyframe_index: Int[Tensor, "b t"]
    T_key_cam: Float[Tensor, "b t 7"]
    T_world_key: Float[Tensor, "b t 7"]
    local_cholesky: Float[Tensor, "b t 6 6"] | None


class Remov3rNetwork(nn.Module):
    """Depth prior, encoders, fusion, dense heads, keyframe rule, local and global state."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or NetworkConfig()
        dim = c.fusion.dim
        self.encoder = build_encoder(c.encoder)
        channels, strides = self.encoder.channels, self.encoder.strides
        self.depth_prior = build_prior(c.depth_prior, channels)
        self.scale_shift = ScaleShift(channels[-1]) if c.scale_shift else None
        self.pointmap_encoder = PointmapEncoder(c.pointmap_encoder)
        self.token_stride = self.pointmap_encoder.stride
        tokens = (self.pointmap_encoder.dim, self.token_stride)
        levels = head_levels(c.heads, c.fusion.depth)
        self.fusion = Fusion(c.fusion, tokens, channels, strides, levels)
        self.heads = build_heads(c.heads, dim, channels)
        self.local_state = LocalState(c.local_state, dim, c.keyframes.max_window)
        self.global_state = GlobalState(c.global_state, dim)
        self.size_multiple = math.lcm(OUTPUT_STRIDE, self.token_stride, *strides)

    def encode(self, rgb_B3HW: Tensor, K_B33: Tensor) -> FrameFeatures:
        """Encode single frames up to SCF tokens and pose embedding: all that a frame between keyframes needs.

        Raises:
            ShapeError: the size is not a multiple of `size_multiple`.
        """
        visual, log_prior_Bhw = self.see(rgb_B3HW, K_B33)
        scf, pose_embedding_BD = self.fuse(visual, log_prior_Bhw, K_B33)
        return FrameFeatures(K_B33, visual, log_prior_Bhw, scf, pose_embedding_BD)

    def see(self, rgb_B3HW: Tensor, K_B33: Tensor) -> tuple[VisualFeatures, Tensor]:
        """Run the first half of `encode`: visual features, and the log of the canonical depth prior, B h w."""
        self.check_size(rgb_B3HW)
        visual = self.encoder(rgb_B3HW.contiguous(memory_format=torch.channels_last))
        return visual, self.prior(rgb_B3HW, visual, K_B33)

    def check_size(self, rgb_B3HW: Tensor) -> None:
        """Refuse images of other sizes than the network takes.

        Raises:
            ShapeError: the size is not a multiple of `size_multiple`.
        """
        height, width = int(rgb_B3HW.shape[2]), int(rgb_B3HW.shape[3])
        if height % self.size_multiple or width % self.size_multiple or not height * width:
            raise ShapeError(f"network input is {height}x{width}: need multiples of {self.size_multiple}")

    def prior(self, rgb_B3HW: Tensor | None, visual: VisualFeatures, K_B33: Tensor) -> Tensor:
        """Predict the log of the canonical depth prior, B h w.

        Args:
            rgb_B3HW: None will do where the prior takes the features alone, as the lite network's does.
        """
        log_prior_Bhw: Tensor = self.depth_prior(rgb_B3HW, visual, K_B33)
        if self.scale_shift is not None:
            height, width = (OUTPUT_STRIDE * int(n) for n in log_prior_Bhw.shape[1:])
            focal_B2 = torch.stack([K_B33[:, 0, 0] / width, K_B33[:, 1, 1] / height], 1)
            log_prior_Bhw = self.scale_shift(log_prior_Bhw, visual.maps[-1], focal_B2)
            log_prior_Bhw = log_prior_Bhw.clamp(*LOG_DEPTH_RANGE)
        return log_prior_Bhw

    def fuse(
        self, visual: VisualFeatures, log_prior_Bhw: Tensor, K_B33: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Run the second half of `encode`: the SCF tokens of each level, B N D, and the pose embedding, B D."""
        size = int(log_prior_Bhw.shape[1]) * OUTPUT_STRIDE, int(log_prior_Bhw.shape[2]) * OUTPUT_STRIDE
        depth_BNE = self.pointmap_encoder(self.depth_prior.metres(log_prior_Bhw, K_B33), K_B33)
        return self.fusion(depth_BNE, visual, K_B33, size)

    def dense(self, features: FrameFeatures) -> DepthOutput:
        """Run the dense heads."""
        K_B33, log_prior_Bhw = features.K_B33, features.log_prior_Bhw
        cell = self.token_stride // OUTPUT_STRIDE
        grid = int(log_prior_Bhw.shape[1]) // cell, int(log_prior_Bhw.shape[2]) // cell
        out = self.heads(features.scf, features.visual, log_prior_Bhw, grid)
        depth_m = self.depth_prior.metres(out.log_depth.clamp(*LOG_DEPTH_RANGE), K_B33)
        return DepthOutput(
            self.depth_prior.metres(log_prior_Bhw, K_B33),
            depth_m,
            out.depth_confidence,
            points_on_rays(depth_m, out.ray_offset, K_B33),
            out.points_confidence,
        )

    def tokens(self, features: FrameFeatures) -> FrameTokens:
        """Place the SCF tokens by the depth prior, for the dense local readout."""
        prior_m = self.depth_prior.metres(features.log_prior_Bhw, features.K_B33)
        return FrameTokens(features.scf[-1], token_places(prior_m, features.K_B33, self.token_stride))

    def forward_depth(self, rgb_B3HW: Float[Tensor, "b 3 H W"], K_B33: Float[Tensor, "b 3 3"]) -> DepthOutput:
        """Predict the dense geometry of single frames.

        Args:
            rgb_B3HW: values 0..1.
            K_B33: intrinsics in pixels of the input.
        Raises:
            ShapeError: the size is not a multiple of `size_multiple`.
        """
        return self.dense(self.encode(rgb_B3HW, K_B33))

    def forward(
        self,
        rgb_BT3HW: Float[Tensor, "b t 3 H W"],
        K_BT33: Float[Tensor, "b t 3 3"],
        keyframe_index_BT: Int[Tensor, "b t"] | None = None,
    ) -> ClipOutput:
        """Predict geometry and poses of whole clips; the world is the first frame of each.

        Args:
            rgb_BT3HW: values 0..1.
            K_BT33: intrinsics in pixels of the input.
            keyframe_index_BT: each frame's keyframe within its clip; decided by the keyframe rule if None.
        Raises:
            ShapeError: the size is not a multiple of `size_multiple`, or the keyframes are not in order.
        """
        B, T = rgb_BT3HW.shape[:2]
        features = self.encode(rgb_BT3HW.flatten(0, 1), K_BT33.flatten(0, 1))
        dense, tokens = self.dense(features), self.tokens(features)
        size = dense.depth_m.shape[1:]
        embedding_BTD = features.pose_embedding_BD.view(B, T, -1)
        if keyframe_index_BT is None:
            keyframe_index_BT = select_keyframes(embedding_BTD, self.config.keyframes)
        else:
            keyframe_index_BT = checked_keyframes(keyframe_index_BT, self.config.keyframes)
        of_clips = FrameTokens(*(x.unflatten(0, (B, T)) for x in (tokens.scf_BNC, tokens.place_BN3)))  # type: ignore[no-untyped-call]
        local = self.local_state(embedding_BTD, keyframe_index_BT, of_clips)
        return ClipOutput(
            prior_depth_m=dense.prior_depth_m.view(B, T, *size),
            depth_m=dense.depth_m.view(B, T, *size),
            depth_confidence=dense.depth_confidence.view(B, T, *size),
            points_cam=dense.points_cam.view(B, T, *size, 3),
            points_confidence=dense.points_confidence.view(B, T, *size),
            pose_embedding=embedding_BTD,
            keyframe_index=keyframe_index_BT,
            T_key_cam=local.T_key_cam,
            T_world_key=self.global_state(embedding_BTD, keyframe_index_BT),
            local_cholesky=local.cholesky,
        )
