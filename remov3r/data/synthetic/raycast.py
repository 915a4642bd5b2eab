"""Batched analytic ray caster: boxes, balls and cans inside a room shell, in plain torch on any device.

All rays of a view share one origin, so the inverse depth w = 1/z of a plane is linear in the pixel. A box is hit
where the smallest w of the faces that look at the camera exceeds the largest w of the other faces: no divisions, and
one small matrix product evaluates all faces. Each solid is tested only on the screen tiles that its outline covers;
the nearest hit of a pixel is an integer maximum over keys (bits of w, solid).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

BOX, BALL, CAN = 0, 1, 2
SIDE_FACE = 0  # a ball, and the round side of a can, are face 0; caps are faces 4 and 5
_FAR_W = 1e9  # stands for "no such face" among the near ones
_NEAR_M = 0.02  # anything nearer than this is not drawn
_CODE = 7  # the low three bits of w carry the face: 1e-6 of relative depth
_CHUNK = 2048  # (solid, tile) pairs at a time, so that intermediate arrays stay in the cache


@dataclass(frozen=True)
class Solids:
    """Convex solids in the world frame; a ball is an ellipsoid, a can an elliptic cylinder along its local z.

    Attributes:
        rotation: R_world_solid.
        shape: BOX, BALL or CAN.
        shell_m: corners (low, high) of the axis-aligned room that encloses everything.
    """

    center_m: Float[Tensor, "n 3"]
    half_m: Float[Tensor, "n 3"]
    rotation: Float[Tensor, "n 3 3"]
    shape: Int[Tensor, " n"]
    shell_m: Float[Tensor, "2 3"]

    def to(self, device: str | torch.device) -> Solids:
        """Return a copy on a device."""
        return Solids(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True)
class Views:
    """Pinhole views of one size.

    Attributes:
        K: intrinsics in pixels, centre of the top-left pixel (0, 0).
        T_world_cam: OpenCV axes, metres.
    """

    width: int
    height: int
    K: Float[Tensor, "v 3 3"]
    T_world_cam: Float[Tensor, "v 4 4"]

    def rays_world(self) -> Float[Tensor, "v 3 p"]:
        """Directions of unit z-depth through each pixel centre, in the world frame, row by row."""
        u = torch.arange(self.width, device=self.K.device, dtype=torch.float32)
        v = torch.arange(self.height, device=self.K.device, dtype=torch.float32)
        pixels = torch.stack(
            [
                u.repeat(self.height),
                v.repeat_interleave(self.width),
                torch.ones(len(u) * len(v), device=u.device),
            ]
        )
        return self.T_world_cam[:, :3, :3] @ torch.linalg.inv(self.K) @ pixels


@dataclass(frozen=True)
class Hits:
    """What each pixel sees.

    Attributes:
        depth_m: z-depth.
        solid: index of the solid; n (their number) is the room shell.
        face: +x −x +y −y +z −z of a box or the shell; 0 for a ball and the side of a can, 4 and 5 for its caps.
    """

    depth_m: Float[Tensor, "v h w"]
    solid: Int[Tensor, "v h w"]
    face: Int[Tensor, "v h w"]


BoxKernel = Callable[[Tensor, Tensor, Tensor], Tensor]


def _box_inverse_depth(coefficients: Tensor, codes: Tensor, basis: Tensor) -> Tensor:
    """Return int bits of the inverse depth (0 = missed) of boxes on tiles.

    Args:
        coefficients: (9, pairs, 3) linear forms of 3 near and 6 far faces at the tile's first pixel.
        codes: (3, pairs, 1) int32, face of each near form.
        basis: (3, pixels) of one tile: 1, column, row.
    """
    w = coefficients @ basis
    coded = (w[:3].view(torch.int32) & ~_CODE) | codes
    bits = torch.minimum(torch.minimum(coded[0], coded[1]), coded[2])
    near = bits.view(torch.float32)
    far = torch.maximum(torch.maximum(w[3], w[4]), torch.maximum(w[5], w[6]))
    far = torch.maximum(far, torch.maximum(w[7], w[8])).clamp_(min=0)
    return bits.masked_fill_((near <= far) | (near > 1 / _NEAR_M), 0)


@lru_cache(maxsize=1)
def _compiled_kernel() -> BoxKernel:
    return torch.compile(_box_inverse_depth, dynamic=True)


def box_kernel(compiled: bool) -> BoxKernel:
    """Return the inner test of boxes, through torch.compile when asked and when a compiler works here."""
    if not compiled:
        return _box_inverse_depth
    kernel = _compiled_kernel()
    try:
        kernel(torch.zeros(9, 4, 3), torch.zeros(3, 4, 1, dtype=torch.int32), torch.zeros(3, 64))
    except Exception:  # whatever the tool chain raises, eager mode gives the same picture
        return _box_inverse_depth
    return kernel


def _pixel_forms(forms: Tensor, K: Tensor) -> Tensor:
    """Turn linear forms over (x, y, 1) into forms over (1, column, row); `forms` is (v, ..., 3)."""
    shape = (-1,) + (1,) * (forms.dim() - 2)
    a = forms[..., 0] / K[:, 0, 0].view(shape)
    b = forms[..., 1] / K[:, 1, 1].view(shape)
    c = forms[..., 2] - a * K[:, 0, 2].view(shape) - b * K[:, 1, 2].view(shape)
    return torch.stack([c, a, b], -1)


def _rectangles(solids: Solids, views: Views, tile: int) -> tuple[Tensor, Tensor]:
    """Return first and one-past-last tile (v, n, 2) of each solid's outline; empty where it is out of sight."""
    device = solids.center_m.device
    bits = torch.arange(8, device=device)
    signs = torch.stack([bits & 1, (bits >> 1) & 1, bits >> 2], -1).float() * 2 - 1
    axes = solids.rotation * solids.half_m[:, None, :]
    corners = solids.center_m[:, None] + signs @ axes.transpose(1, 2)
    R, t = views.T_world_cam[:, :3, :3], views.T_world_cam[:, :3, 3]
    n = len(solids.center_m)
    cam = ((corners.reshape(1, -1, 3) - t[:, None]) @ R).view(len(t), n, 8, 3)
    # corners behind the near plane are replaced by where the box's edges cross that plane
    i = torch.arange(8, device=device).repeat(3)
    j = i ^ torch.tensor([1, 2, 4], device=device).repeat_interleave(8)
    first, second = i[i < j], j[i < j]
    p, q = cam[:, :, first], cam[:, :, second]
    zp, zq = p[..., 2:], q[..., 2:]
    s = ((_NEAR_M - zp) / torch.where((zq - zp).abs() < 1e-9, torch.ones_like(zp), zq - zp)).clamp(0, 1)
    points = torch.cat([cam, p + s * (q - p)], 2)
    seen = points[..., 2] >= _NEAR_M * 0.999
    fc = torch.stack([views.K[:, 0, 0], views.K[:, 1, 1]], -1)[:, None, None]
    c0 = views.K[:, :2, 2][:, None, None]
    uv = points[..., :2] / points[..., 2:].clamp(min=_NEAR_M * 0.5) * fc + c0
    low = torch.where(seen[..., None], uv, torch.full_like(uv, torch.inf)).amin(2)
    high = torch.where(seen[..., None], uv, torch.full_like(uv, -torch.inf)).amax(2)
    size = torch.tensor([views.width, views.height], device=device, dtype=torch.float32)
    tiles = ((size + tile - 1) // tile).long()
    start = (low.clamp(-1, 1e5) // tile).long().clamp(min=0)
    stop = torch.minimum((high.clamp(-1, 1e5) // tile).long() + 1, tiles)
    visible = (high >= 0).all(-1, keepdim=True) & (low <= size - 1).all(-1, keepdim=True)
    return start, torch.where(visible, torch.maximum(stop, start), start)


def _pairs(start: Tensor, stop: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """List (view-solid index, tile column, tile row) of every tile of the chosen solids."""
    extent = (stop - start).clamp(min=0) * chosen[None, :, None]
    count = (extent[..., 0] * extent[..., 1]).reshape(-1)
    which = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    within = torch.arange(len(which), device=count.device) - (count.cumsum(0) - count)[which]
    width = extent[..., 0].reshape(-1)[which].clamp(min=1)
    row = torch.div(within, width, rounding_mode="floor")
    first = start.reshape(-1, 2)[which]
    return which, first[:, 0] + within - row * width, first[:, 1] + row


def _box_forms(solids: Solids, views: Views) -> tuple[Tensor, Tensor, Tensor]:
    """Return pixel forms (v, n, 9, 3) of 3 near and 6 far faces, the near ones' codes, and whether any is near."""
    Rt = solids.rotation.transpose(1, 2)
    origin = torch.einsum("nij,vnj->vni", Rt, views.T_world_cam[:, None, :3, 3] - solids.center_m)
    direction = torch.einsum("nij,vjk->vnik", Rt, views.T_world_cam[:, :3, :3])
    plus, minus = solids.half_m - origin, solids.half_m + origin  # < 0 where the face looks at the camera
    plus = torch.where(plus.abs() < 1e-6, torch.full_like(plus, 1e-6), plus)
    minus = torch.where(minus.abs() < 1e-6, torch.full_like(minus, 1e-6), minus)
    w_plus, w_minus = direction / plus[..., None], -direction / minus[..., None]
    front_plus, front_minus = (plus < 0)[..., None], (minus < 0)[..., None]
    near = torch.where(front_plus, w_plus, w_minus)
    is_front = front_plus | front_minus
    near = torch.where(is_front, near, torch.tensor([0.0, 0.0, _FAR_W], device=near.device))
    far = torch.cat([torch.where(front_plus, w_minus, w_plus), torch.where(front_minus, w_plus, w_minus)], 2)
    codes = torch.arange(0, 6, 2, device=near.device) + front_minus[..., 0]
    forms = torch.cat([near, far], 2)
    none_far = is_front.any(2)[..., 0]
    return _pixel_forms(forms, views.K), codes.int(), none_far


def _tile_basis(tile: int, device: torch.device) -> Tensor:
    step = torch.arange(tile, device=device, dtype=torch.float32)
    return torch.stack(
        [torch.ones(tile * tile, device=device), step.repeat(tile), step.repeat_interleave(tile)]
    )


def _splat(keys: Tensor, bits: Tensor, which: Tensor, target: Tensor) -> None:
    """Keep the largest key (bits of inverse depth, view-solid index) of each pixel."""
    value = (bits.long() << 32) | which[:, None]
    value.masked_fill_(bits == 0, 0)
    index = target[:, None] * keys.shape[1] + torch.arange(keys.shape[1], device=keys.device)
    keys.view(-1).scatter_reduce_(0, index.view(-1), value.view(-1), "amax", include_self=True)


def _cast_boxes(
    solids: Solids, views: Views, keys: Tensor, tile: int, rect: tuple[Tensor, Tensor], kernel: BoxKernel
) -> None:
    forms, codes, outside = _box_forms(solids, views)
    start, stop = rect
    stop = torch.where(outside[..., None], stop, start)
    which, tx, ty = _pairs(start, stop, solids.shape == BOX)
    tiles_x, tiles_y = -(-views.width // tile), -(-views.height // tile)
    target = (which // len(solids.center_m) * tiles_y + ty) * tiles_x + tx
    basis = _tile_basis(tile, keys.device)
    flat_forms, flat_codes = forms.reshape(-1, 9, 3), codes.reshape(-1, 3)
    for a in range(0, len(which), _CHUNK):
        part = slice(a, a + _CHUNK)
        c = flat_forms[which[part]].transpose(0, 1).contiguous()
        c[..., 0] += c[..., 1] * (tx[part] * tile) + c[..., 2] * (ty[part] * tile)
        code = flat_codes[which[part]].T.unsqueeze(-1).contiguous()
        _splat(keys, kernel(c, code, basis), which[part], target[part])


def _cast_rounds(solids: Solids, views: Views, keys: Tensor, tile: int, rect: tuple[Tensor, Tensor]) -> None:
    chosen = solids.shape != BOX
    which, tx, ty = _pairs(*rect, chosen)
    if not len(which):
        return
    n = len(solids.center_m)
    view, solid = which // n, which % n
    scaled = solids.rotation.transpose(1, 2) / solids.half_m[:, :, None]  # unit ball or unit can
    origin = torch.einsum(
        "pij,pj->pi", scaled[solid], views.T_world_cam[view, :3, 3] - solids.center_m[solid]
    )
    forms = torch.einsum("pij,pjk->pik", scaled[solid], views.T_world_cam[view, :3, :3])
    K = views.K[view]
    forms = _pixel_forms(forms, K)
    forms[..., 0] += forms[..., 1] * (tx * tile)[:, None] + forms[..., 2] * (ty * tile)[:, None]
    d = (forms.transpose(0, 1) @ _tile_basis(tile, keys.device)).unbind(0)
    o = [origin[:, k : k + 1] for k in range(3)]
    m = (solids.shape[solid] == BALL).float()[:, None]
    a = (d[0] ** 2 + d[1] ** 2 + m * d[2] ** 2).clamp_(min=1e-12)
    b = d[0] * o[0] + d[1] * o[1] + m * d[2] * o[2]
    c = o[0] ** 2 + o[1] ** 2 + m * o[2] ** 2 - 1
    root = (b * b - a * c).clamp_(min=0).sqrt_()
    missed = b * b < a * c
    near, far = (-b - root) / a, (-b + root) / a
    dz = torch.where(d[2].abs() < 1e-9, torch.full_like(d[2], 1e-9), d[2])
    cap_near, cap_far = (-o[2] - dz.sign()) / dz, (-o[2] + dz.sign()) / dz
    on_cap = (cap_near > near) & (m == 0)
    near = torch.where(on_cap, cap_near, near)
    far = torch.where(m == 0, torch.minimum(far, cap_far), far)
    face = torch.where(on_cap, torch.where(dz < 0, 4, 5), SIDE_FACE)
    bits = ((1 / near.clamp(min=1e-6)).view(torch.int32) & ~_CODE) | face.int()
    bits.masked_fill_(missed | (near < _NEAR_M) | (near >= far), 0)
    tiles_x, tiles_y = -(-views.width // tile), -(-views.height // tile)
    _splat(keys, bits, which, (view * tiles_y + ty) * tiles_x + tx)


def _shell_bits(solids: Solids, views: Views, tile: int) -> Tensor:
    """Return the coded inverse depth of the room's inner faces, (v, height, width) of the padded image."""
    R, t = views.T_world_cam[:, :3, :3], views.T_world_cam[:, :3, 3]
    low, high = solids.shell_m
    plus = R / (high - t).clamp(min=1e-4)[..., None]
    minus = -R / (t - low).clamp(min=1e-4)[..., None]
    forms = _pixel_forms(torch.stack([plus, minus], 2).flatten(1, 2), views.K)
    columns = torch.arange(-(-views.width // tile) * tile, device=R.device, dtype=torch.float32)
    rows = torch.arange(-(-views.height // tile) * tile, device=R.device, dtype=torch.float32)
    best: Tensor | None = None
    for face in range(6):
        c, a, b = (forms[:, face, k].view(-1, 1, 1) for k in range(3))
        w = (c + b * rows[:, None]) + a * columns
        bits = (w.view(torch.int32) & ~_CODE) | face
        best = bits if best is None else torch.maximum(best, bits)
    assert best is not None
    return best


def cast(solids: Solids, views: Views, compiled: bool = False) -> Hits:
    """Find what every pixel of every view sees.

    Args:
        solids: the scene; each camera must be inside its shell. A solid that encloses the camera is not drawn.
        compiled: run the inner test through torch.compile (falls back to eager where no compiler works).
    """
    tile = 8 if views.width < 400 else 16
    tiles_x, tiles_y, v = -(-views.width // tile), -(-views.height // tile), len(views.K)
    n = len(solids.center_m)
    keys = torch.zeros(v * tiles_y * tiles_x, tile * tile, dtype=torch.int64, device=views.K.device)
    if n:
        rect = _rectangles(solids, views, tile)
        _cast_boxes(solids, views, keys, tile, rect, box_kernel(compiled))
        _cast_rounds(solids, views, keys, tile, rect)
    image = (
        keys.view(v, tiles_y, tiles_x, tile, tile).transpose(2, 3).reshape(v, tiles_y * tile, tiles_x * tile)
    )
    shell = _shell_bits(solids, views, tile)[:, : views.height, : views.width]
    image = image[:, : views.height, : views.width]
    bits = (image >> 32).int()
    is_shell = shell >= bits
    bits = torch.maximum(bits, shell)
    solid = torch.where(is_shell, n, (image & 0xFFFFFFFF) % max(n, 1))
    return Hits(1 / (bits & ~_CODE).view(torch.float32), solid, (bits & _CODE).long())
