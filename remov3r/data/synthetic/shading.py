"""Colours of what the rays hit: textures, point lights with one soft shadow map, darker corners.

Textures are stored with a display gamma of 2, so a texel times the square root of the light is the displayed value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from remov3r.data.synthetic.raycast import BOX, CAN, Hits, Views, cast
from remov3r.data.synthetic.rooms import Room
from remov3r.data.synthetic.textures import TextureAtlas

_SHADOW_PX = 192
_SHADOW_FOCAL_PX = 64.0  # ±56 degrees


@dataclass(frozen=True)
class ShadowMap:
    """Inverse distance below the first light, seen straight down."""

    inverse_m: Float[Tensor, " p"]
    position_m: Float[Tensor, "3"]


def shadow_map(room: Room) -> ShadowMap:
    """Render what the room's first light sees."""
    position = room.lights.position_m[0]
    device = position.device
    T = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], device=device))
    T[:3, 3] = position
    c = (_SHADOW_PX - 1) / 2
    K = torch.tensor([[_SHADOW_FOCAL_PX, 0, c], [0, _SHADOW_FOCAL_PX, c], [0, 0, 1]], device=device)
    hits = cast(room.solids, Views(_SHADOW_PX, _SHADOW_PX, K[None], T[None]))
    return ShadowMap((1 / hits.depth_m).view(-1), position)


def _lit(shadow: ShadowMap, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Return the part 0..1 of the first light that reaches points given relative to it."""
    w = 1 / (-z).clamp(min=1e-3)
    c = (_SHADOW_PX - 1) / 2
    limit = _SHADOW_PX - 2.001
    u = (x * w).mul_(_SHADOW_FOCAL_PX).add_(c).clamp_(0, limit)
    v = (y * w).mul_(-_SHADOW_FOCAL_PX).add_(c).clamp_(0, limit)
    u0, v0 = u.long(), v.long()
    fu, fv = u - u0, v - v0
    index = v0 * _SHADOW_PX + u0
    limit_w = w * 1.02 + 0.004
    blocked = [(shadow.inverse_m[index + k] > limit_w).float() for k in (0, 1, _SHADOW_PX, _SHADOW_PX + 1)]
    top = torch.lerp(blocked[0], blocked[1], fu)
    bottom = torch.lerp(blocked[2], blocked[3], fu)
    return 1 - 0.9 * torch.lerp(top, bottom, fv) * (z < -0.05)


def _bend_rounds(
    room: Room, solid: Tensor, face: Tensor, point: Tensor, u: Tensor, v: Tensor, normal: Tensor
) -> None:
    """Overwrite texture coordinates and normals where a ball or the side of a can was hit (all arguments flat)."""
    s = room.solids
    shape = torch.cat([s.shape, s.shape.new_full((1,), BOX)])
    at = ((shape[solid] != BOX) & (face == 0)).nonzero()[:, 0]
    if not len(at):
        return
    which = solid[at]
    half, R = s.half_m[which], s.rotation[which]
    local = torch.einsum("nij,ni->nj", R, point[:, at].T - s.center_m[which]) / half
    is_can = (s.shape[which] == CAN)[:, None]
    flat = torch.cat([torch.ones_like(is_can), torch.ones_like(is_can), ~is_can], 1)
    direction = torch.nn.functional.normalize(local * flat / half, dim=1)
    normal[:, at] = torch.einsum("nij,nj->in", R, direction)
    # the scale of the box face of the same solid carries over: metres along the girth and along the axis
    table = room.surfaces.table[:, which * 6]
    turn = torch.atan2(local[:, 1], local[:, 0])
    u[at] = table[3] + turn * half[:, 0] * table[0:3].norm(dim=0)
    v[at] = table[7] + local[:, 2] * half[:, 2] * table[4:7].norm(dim=0)


def shade(
    room: Room, atlas: TextureAtlas, shadow: ShadowMap, views: Views, hits: Hits
) -> Float[Tensor, "v h w 3"]:
    """Colour the hits; values are display values 0..1 at exposure 1 and may exceed 1.

    Args:
        shadow: `shadow_map(room)`.
    """
    v = len(views.K)
    rays = views.rays_world()
    depth = hits.depth_m.view(v, 1, -1)
    point = (rays * depth + views.T_world_cam[:, :3, 3:]).transpose(0, 1).reshape(3, -1)
    solid, face = hits.solid.reshape(-1), hits.face.reshape(-1)
    surface = solid * 6 + face
    table = room.surfaces.table.index_select(1, surface)
    x, y, z = point
    tu = (table[0] * x).addcmul_(table[1], y).addcmul_(table[2], z).add_(table[3])
    tv = (table[4] * x).addcmul_(table[5], y).addcmul_(table[6], z).add_(table[7])
    normal = table[8:11]
    _bend_rounds(room, solid, face, point, tu, tv, normal)
    rays = rays.transpose(0, 1).reshape(3, -1)
    cosine = (rays * normal).sum(0).abs_() / (rays * rays).sum(0).sqrt_()
    pitch = depth / views.K[:, 0, 0].view(v, 1, 1)
    footprint = pitch.reshape(-1) * table[11] / cosine.clamp_(min=0.1).sqrt_()
    colour = atlas.sample(room.surfaces.texture.index_select(0, surface), tu, tv, footprint)
    looks = room.surfaces.looks.index_select(0, surface)
    light = _light(room, shadow, point, normal)
    light += looks[:, 3:]
    gain = light.sqrt_().mul_(looks).mul_(1 / 255)
    return colour.mul_(gain).view(v, views.height, views.width, 4)[..., :3]


def _light(room: Room, shadow: ShadowMap, point: Tensor, normal: Tensor) -> Tensor:
    """Return the light (n, 4) on points; the fourth channel is not used."""
    lights, (low, high) = room.lights, room.solids.shell_m
    edge = torch.minimum(point - low[:, None], high[:, None] - point).clamp_(min=0).mul_(-4.0).exp_()
    corner = (1 - 0.3 * edge).prod(0)
    terms = [(0.8 + 0.2 * normal[2]).mul_(corner)]
    for k, position in enumerate(lights.position_m):
        rel = point - position[:, None]
        square = (rel * rel).sum(0)
        facing = -(rel * normal).sum(0)
        diffuse = (facing / square.sqrt()).clamp_(min=0) / (square + 0.3)
        if k == 0:
            diffuse *= _lit(shadow, rel[0], rel[1], rel[2])
        terms.append(diffuse.mul_(corner))
    colours = torch.cat([lights.ambient[None], lights.colour])
    return torch.stack(terms).T @ torch.nn.functional.pad(colours, (0, 1))
