"""The network of the paper's figure 1, assembled; each box is a module of its own file.

Shapes: B batch, T frames, H W input size (multiples of 32), h w = H/2 W/2, N SCF tokens at stride 16,
D channels of the pose embedding, 7 = x y z qx qy qz qw (unit quaternion).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from remov3r.config import Config
from remov3r.errors import ShapeError
from remov3r.models.depth_prior import LOG_DEPTH_RANGE, DepthPrior, DepthPriorConfig
from remov3r.models.encoder import Encoder, EncoderConfig, EncoderFeatures
from remov3r.models.fusion import Fusion, FusionConfig
from remov3r.models.global_state import GlobalState, GlobalStateConfig
from remov3r.models.heads import DenseHeads, HeadsConfig, points_on_rays
from remov3r.models.keyframes import KeyframeConfig, checked_keyframes, select_keyframes
from remov3r.models.local_state import LocalState, LocalStateConfig
from remov3r.models.pointmap_encoder import PointmapEncoder, PointmapEncoderConfig

SIZE_MULTIPLE = 32


class NetworkConfig(Config):
    """The whole network."""

    encoder: EncoderConfig = EncoderConfig()
    depth_prior: DepthPriorConfig = DepthPriorConfig()
    pointmap_encoder: PointmapEncoderConfig = PointmapEncoderConfig()
    fusion: FusionConfig = FusionConfig()
    heads: HeadsConfig = HeadsConfig()
    keyframes: KeyframeConfig = KeyframeConfig()
    local_state: LocalStateConfig = LocalStateConfig()
    global_state: GlobalStateConfig = GlobalStateConfig()


@dataclass(frozen=True)
class FrameFeatures:
    """What every frame pays for, and all that the dense heads need later."""

    K_B33: Tensor
    encoder: EncoderFeatures
    log_prior_Bhw: Tensor
    scf_BND: Tensor
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
    """Everything about clips; `keyframe_index` counts within the clip, `T_world_key` is the keyframe's."""

    prior_depth_m: Float[Tensor, "b t h w"]
    depth_m: Float[Tensor, "b t h w"]
    depth_confidence: Float[Tensor, "b t h w"]
    points_cam: Float[Tensor, "b t h w 3"]
    points_confidence: Float[Tensor, "b t h w"]
    pose_embedding: Float[Tensor, "b t d"]
    keyframe_index: Int[Tensor, "b t"]
    T_key_cam: Float[Tensor, "b t 7"]
    T_world_key: Float[Tensor, "b t 7"]


class Remov3rNetwork(nn.Module):
    """Depth prior, encoders, fusion, dense heads, keyframe rule, local and global state."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config or NetworkConfig()
        dim = self.config.fusion.dim
        self.encoder = Encoder(self.config.encoder)
        self.depth_prior = DepthPrior(self.config.depth_prior)
        self.pointmap_encoder = PointmapEncoder(self.config.pointmap_encoder)
        self.fusion = Fusion(self.config.fusion, self.config.pointmap_encoder.dim)
        self.heads = DenseHeads(self.config.heads, dim)
        self.local_state = LocalState(self.config.local_state, dim, self.config.keyframes.max_window)
        self.global_state = GlobalState(self.config.global_state, dim)

    def encode(self, rgb_B3HW: Tensor, K_B33: Tensor) -> FrameFeatures:
        """Encode single frames up to SCF tokens and pose embedding: all that a frame between keyframes needs.

        Raises:
            ShapeError: the size is not a multiple of 32.
        """
        height, width = rgb_B3HW.shape[2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE or not height * width:
            raise ShapeError(f"network input is {height}x{width}: need multiples of {SIZE_MULTIPLE}")
        encoded = self.encoder(rgb_B3HW.contiguous(memory_format=torch.channels_last))
        log_prior_Bhw = self.depth_prior(encoded, K_B33)
        depth_BNE = self.pointmap_encoder(self.depth_prior.metres(log_prior_Bhw, K_B33), K_B33)
        scf_BND, pose_embedding_BD = self.fusion(depth_BNE, encoded, K_B33)
        return FrameFeatures(K_B33, encoded, log_prior_Bhw, scf_BND, pose_embedding_BD)

    def dense(self, features: FrameFeatures) -> DepthOutput:
        """Run the dense heads."""
        K_B33 = features.K_B33
        out = self.heads(features.scf_BND, features.encoder, features.log_prior_Bhw)
        depth_m = self.depth_prior.metres(out.log_depth.clamp(*LOG_DEPTH_RANGE), K_B33)
        return DepthOutput(
            self.depth_prior.metres(features.log_prior_Bhw, K_B33),
            depth_m,
            out.depth_confidence,
            points_on_rays(depth_m, out.ray_offset, K_B33),
            out.points_confidence,
        )

    def forward_depth(self, rgb_B3HW: Float[Tensor, "b 3 H W"], K_B33: Float[Tensor, "b 3 3"]) -> DepthOutput:
        """Predict the dense geometry of single frames.

        Args:
            rgb_B3HW: values 0..1.
            K_B33: intrinsics in pixels of the input.
        Raises:
            ShapeError: the size is not a multiple of 32.
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
            ShapeError: the size is not a multiple of 32, or the keyframes are not in order.
        """
        B, T = rgb_BT3HW.shape[:2]
        features = self.encode(rgb_BT3HW.flatten(0, 1), K_BT33.flatten(0, 1))
        dense = self.dense(features)
        size = dense.depth_m.shape[1:]
        embedding_BTD = features.pose_embedding_BD.view(B, T, -1)
        if keyframe_index_BT is None:
            keyframe_index_BT = select_keyframes(embedding_BTD, self.config.keyframes)
        else:
            keyframe_index_BT = checked_keyframes(keyframe_index_BT, self.config.keyframes)
        return ClipOutput(
            prior_depth_m=dense.prior_depth_m.view(B, T, *size),
            depth_m=dense.depth_m.view(B, T, *size),
            depth_confidence=dense.depth_confidence.view(B, T, *size),
            points_cam=dense.points_cam.view(B, T, *size, 3),
            points_confidence=dense.points_confidence.view(B, T, *size),
            pose_embedding=embedding_BTD,
            keyframe_index=keyframe_index_BT,
            T_key_cam=self.local_state(embedding_BTD, keyframe_index_BT),
            T_world_key=self.global_state(embedding_BTD, keyframe_index_BT),
        )
