"""What to optimise when: the fixed-lag window after each keyframe, the whole map at the end.

How the front end's depth enters. A single depth map is biased as a whole, so its pixels are not independent
measurements. Each keyframe has a log-scale s against its landmarks, solved in closed form (a weighted median
shrunk towards its prior) before each optimisation; within it, ranges depth·exp(s) are native factors with
sigma² = (own noise)² + n·(scale noise)²: n measurements that share one error weigh as one.
The scale of the map as a whole is set by all keyframes together (`map_scale.settle_scale`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from remov3r.backends.bundle_solver import BundleSolution, camera_covariances, solve_bundle
from remov3r.backends.bundle_terms import BundleProblem, BundleSolverConfig, residuals
from remov3r.backends.keyframe_links import LinkConfig, hold_flown, links_between
from remov3r.backends.landmark_map import LandmarkMap
from remov3r.backends.map_scale import ScaleConfig, relative_sigma, update_log_scale
from remov3r.backends.pose_solver import projection_jacobian
from remov3r.geometry import inverse, transform

Ids = Int[np.ndarray, " n"]
SomeIds = Int[np.ndarray, " s"]  # fewer than were given


class AdjustmentConfig(ScaleConfig):
    """Window, closing bundle and the weight of depth."""

    window: int = Field(8, ge=2)
    held_keyframes: int = Field(6, ge=0)
    solver: BundleSolverConfig = BundleSolverConfig()
    link: LinkConfig = LinkConfig()
    closing_iterations: int = Field(8, ge=1)
    outlier_px: float = Field(5.0, gt=0)
    min_parallax_deg: float = Field(1.0, gt=0)
    max_closing_observations: int = Field(200_000, ge=1000)


@dataclass(frozen=True)
class Adjustment:
    """What an optimisation did.

    Attributes:
        accepted: whether its result was taken.
        initial_error, final_error: mean cost before and after.
        put_back: keyframes that it moved away from their neighbours, and that now stand where tracking saw them.
    """

    accepted: bool
    initial_error: float
    final_error: float
    put_back: tuple[int, ...] = ()


def adjust_window(landmark_map: LandmarkMap, config: AdjustmentConfig) -> Adjustment | None:
    """Optimise the last keyframes and what they see, older ones that share landmarks held; None if too little."""
    keyframes = landmark_map.keyframes
    submap = keyframes[-1].submap
    free = [i for i, k in enumerate(keyframes) if k.submap == submap][-config.window :]
    seen = np.unique(landmark_map.obs_landmark[landmark_map.rows_of_keyframes(free)])
    rows = landmark_map.rows_of_landmarks(seen)
    older = landmark_map.obs_keyframe[rows]
    counts = np.bincount(older, minlength=len(keyframes))
    counts[free] = 0
    order = np.argsort(-counts, kind="stable")[: config.held_keyframes]
    held = sorted(int(i) for i in order if counts[i] >= 6)
    if not held:
        held, free = free[:1], free[1:]
    if not free:
        return None
    for place in free:
        update_log_scale(landmark_map, place, config)
    used = np.zeros(len(keyframes), bool)
    used[free + held] = True
    return _adjust(landmark_map, rows[used[older]], held, config, config.solver)


def adjust_all(landmark_map: LandmarkMap, config: AdjustmentConfig, passes: int = 2) -> list[Adjustment]:
    """Optimise the whole map, twice by default, dropping what does not fit in between."""
    keyframes = landmark_map.keyframes
    done: list[Adjustment] = []
    solver = config.solver.model_copy(
        update={"iterations": config.closing_iterations, "relative_tolerance": 1e-4}
    )
    for _ in range(passes):
        firsts: dict[int, int] = {}
        for i, keyframe in enumerate(keyframes):
            firsts.setdefault(keyframe.submap, i)
            update_log_scale(landmark_map, i, config)
        rows = _closing_rows(landmark_map, config)
        held = sorted(firsts.values())
        result = _adjust(landmark_map, rows, held, config, solver)
        if result is None:
            break
        free = [i for i in range(len(keyframes)) if i not in held]
        put_back = hold_flown(landmark_map, free, config.link)
        _mark_outliers(landmark_map, landmark_map.rows_of_keyframes(put_back), config)
        done.append(replace(result, put_back=tuple(put_back)))
        if not result.accepted:
            break
    return done


def parallax_rad(landmark_map: LandmarkMap, rows: Ids) -> Float[np.ndarray, " l"]:
    """Return for every landmark the largest angle between its anchor's line of sight and those of some observations."""
    centres = landmark_map.poses[:, :3, 3]
    landmarks = landmark_map.obs_landmark[rows]
    ray = landmark_map.points[landmarks] - centres[landmark_map.obs_keyframe[rows]]
    base = landmark_map.points[landmarks] - centres[landmark_map.anchor[landmarks]]
    angle = np.arctan2(np.linalg.norm(np.cross(ray, base), axis=1), (ray * base).sum(1))
    out = np.zeros(len(landmark_map.points))
    with np.errstate(invalid="ignore"):
        np.maximum.at(out, landmarks, angle)
    return out


def keyframe_covariances(landmark_map: LandmarkMap, config: AdjustmentConfig) -> Float[np.ndarray, "k 6 6"]:
    """Return the marginal covariance of every keyframe, relative to the first; NaN where it is not known.

    Rotation first, then translation, in the keyframe's own frame. The pixels' noise is what their residuals
    show. All depths may be wrong by one common factor, as far as one keyframe's may.
    """
    keyframes = landmark_map.keyframes
    out = np.full((len(keyframes), 6, 6), np.nan)
    rows = _well_posed(landmark_map, _closing_rows(landmark_map, config), config)
    if len(rows) < 20:
        return out
    problem, places, _ = _problem(landmark_map, rows, [0], config)
    noise = _noise_factor(problem, config.solver)
    solver = config.solver.model_copy(update={"sigma_px": config.solver.sigma_px * noise})
    covariances = camera_covariances(problem, solver)
    if covariances is None or places[0] != 0:
        return out
    known = np.array([keyframes[p].submap == keyframes[0].submap for p in places.tolist()])
    T = problem.T_world_cam[known]
    along = np.einsum("kji,kj->ki", T[:, :3, :3], T[:, :3, 3] - T[:1, :3, 3])
    scale_sigma = np.median([k.scale_sigma for k in keyframes])
    out[places[known]] = config.covariance_factor * covariances[known]
    out[places[known], 3:, 3:] += scale_sigma**2 * along[:, :, None] * along[:, None]
    return out


def _noise_factor(problem: BundleProblem, solver: BundleSolverConfig) -> float:
    """How large the pixels' residuals are over what is assumed, by their median and the freedom they left."""
    r = residuals(problem, solver)[0][:, :2]
    measured = 2 * len(r) + np.isfinite(problem.obs_range_m).sum()
    freedom = 1 - (3 * len(problem.points) + 6 * len(problem.held)) / measured
    return float(np.sqrt(np.median((r**2).sum(1)) / (2 * np.log(2)) / max(freedom, 0.1)))


def _adjust(
    landmark_map: LandmarkMap,
    rows: Ids,
    held: list[int],
    config: AdjustmentConfig,
    solver: BundleSolverConfig,
) -> Adjustment | None:
    """Optimise the cameras and landmarks of some observations; write back what is better than before."""
    rows = _well_posed(landmark_map, rows, config)
    if len(rows) < 20:
        return None
    problem, places, landmarks = _problem(landmark_map, rows, held, config)
    if problem.held.all():
        return None
    solution = solve_bundle(problem, solver)
    if solution is None:
        return Adjustment(False, np.nan, np.nan)
    _write_back(landmark_map, problem, solution, places, landmarks, rows, config)
    return Adjustment(True, solution.initial_error / len(rows), solution.final_error / len(rows))


def _problem(
    landmark_map: LandmarkMap, rows: Ids, held: list[int], config: AdjustmentConfig
) -> tuple[BundleProblem, Int[np.ndarray, " k"], Int[np.ndarray, " l"]]:
    """Gather some observations; return the problem and its keyframes and landmarks. The first is held if none is."""
    places, obs_camera = np.unique(landmark_map.obs_keyframe[rows], return_inverse=True)
    landmarks, obs_point = np.unique(landmark_map.obs_landmark[rows], return_inverse=True)
    is_held = np.isin(places, held)
    is_held[0] |= not is_held.any()
    range_m, range_sigma_m = _ranges(landmark_map, rows, config)
    problem = BundleProblem(
        landmark_map.camera,
        landmark_map.poses[places],
        is_held,
        landmark_map.points[landmarks],
        obs_camera,
        obs_point,
        landmark_map.obs_pixel[rows],
        range_m,
        range_sigma_m,
        links_between(landmark_map, places),
    )
    return problem, places, landmarks


def _closing_rows(landmark_map: LandmarkMap, config: AdjustmentConfig) -> Ids:
    """All good observations, or as many as the budget allows."""
    rows = np.flatnonzero(landmark_map.obs_good)
    if len(rows) > config.max_closing_observations:
        rows = _best_observed(landmark_map, rows, config.max_closing_observations)
    return rows


def _well_posed(landmark_map: LandmarkMap, rows: Ids, config: AdjustmentConfig) -> SomeIds:
    """Drop landmarks that are seen once, or from one direction only and without a depth."""
    landmarks = landmark_map.obs_landmark[rows]
    size = len(landmark_map.points)
    seen = np.bincount(landmarks, minlength=size)
    has_depth = np.bincount(landmarks[np.isfinite(landmark_map.obs_depth_m[rows])], minlength=size) > 0
    wide = parallax_rad(landmark_map, rows) > np.deg2rad(config.min_parallax_deg)
    return rows[((seen >= 2) & (has_depth | wide))[landmarks]]


def _ranges(
    landmark_map: LandmarkMap, rows: Ids, config: AdjustmentConfig
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Turn the front end's depths into distances along the line of sight, scaled by their keyframe's log-scale."""
    camera, keyframes = landmark_map.camera, landmark_map.keyframes
    place = landmark_map.obs_keyframe[rows]
    pixel, depth = landmark_map.obs_pixel[rows], landmark_map.obs_depth_m[rows]
    stretch = np.sqrt(
        1 + ((pixel[:, 0] - camera.cx) / camera.fx) ** 2 + ((pixel[:, 1] - camera.cy) / camera.fy) ** 2
    )
    scale = np.exp([k.log_scale for k in keyframes])[place]
    shared = np.array([k.scale_sigma for k in keyframes])[place] ** 2
    count = np.bincount(place[np.isfinite(depth)], minlength=len(keyframes))[place]
    own = relative_sigma(landmark_map, rows, config)
    relative = np.sqrt(own**2 + count * shared)
    range_m = depth * stretch * scale
    now_m = np.linalg.norm(
        landmark_map.points[landmark_map.obs_landmark[rows]] - landmark_map.poses[place, :3, 3], axis=1
    )
    return range_m * _debias(range_m / now_m, place), relative * now_m


def _debias(ratio: Float[np.ndarray, " m"], place: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Factor per observation that makes a keyframe's mean ratio equal to its median ratio.

    Ranges err by factors, but their residual is a difference, whose optimum is the mean: noisy depth would
    blow the map up or shrink it a little with each optimisation.
    """
    factor = np.ones(int(place.max()) + 1)
    for k in np.unique(place).tolist():
        values = ratio[(place == k) & np.isfinite(ratio)]
        if len(values):
            middle = float(np.median(values))
            factor[k] = middle / values[np.abs(np.log(values / middle)) < 0.7].mean()
    return factor[place]


def _write_back(
    landmark_map: LandmarkMap,
    problem: BundleProblem,
    solution: BundleSolution,
    places: Int[np.ndarray, " k"],
    landmarks: Int[np.ndarray, " l"],
    rows: Int[np.ndarray, " m"],
    config: AdjustmentConfig,
) -> None:
    """Take over the solution, mark observations that do not fit it, and say how sure each depth is now."""
    left_out = np.ones(len(landmark_map.points), bool)
    left_out[landmarks] = False
    for i, place in enumerate(places.tolist()):
        if problem.held[i]:
            continue
        keyframe = landmark_map.keyframes[place]
        moved = solution.T_world_cam[i] @ inverse(keyframe.T_world_cam)
        keyframe.T_world_cam = solution.T_world_cam[i]
        # Landmarks that only this keyframe has seen go with it.
        own = left_out & (landmark_map.anchor == place)
        landmark_map.points[own] = transform(moved, landmark_map.points[own])
    landmark_map.points[landmarks] = solution.points
    P, good = _mark_outliers(landmark_map, rows, config)
    _update_sigma(landmark_map, problem, solution, landmarks, P, good, config)


def _mark_outliers(
    landmark_map: LandmarkMap, rows: Ids, config: AdjustmentConfig
) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, " n"]]:
    """Declare observations bad that do not fit; return their points in the cameras, and which do fit."""
    camera, T = landmark_map.camera, landmark_map.poses[landmark_map.obs_keyframe[rows]]
    P = np.einsum(
        "nji,nj->ni", T[:, :3, :3], landmark_map.points[landmark_map.obs_landmark[rows]] - T[:, :3, 3]
    )
    z = np.maximum(P[:, 2], 1e-3)
    uv = np.stack([camera.fx * P[:, 0] / z + camera.cx, camera.fy * P[:, 1] / z + camera.cy], 1)
    limit = config.outlier_px * max(camera.width / 640, 0.5)
    good = (np.linalg.norm(uv - landmark_map.obs_pixel[rows], axis=1) <= limit) & (P[:, 2] > 1e-3)
    landmark_map.obs_good[rows[~good]] = False
    return P, good


def _update_sigma(
    landmark_map: LandmarkMap,
    problem: BundleProblem,
    solution: BundleSolution,
    landmarks: Int[np.ndarray, " l"],
    P: Float[np.ndarray, "m 3"],
    good: np.ndarray,
    config: AdjustmentConfig,
) -> None:
    """Add up what each observation says of a landmark's log depth: how far its pixel moves with it."""
    centres = landmark_map.poses[landmark_map.anchor[landmarks], :3, 3]
    along = (solution.points - centres)[problem.obs_point]
    R = solution.T_world_cam[problem.obs_camera][:, :3, :3]
    moved = np.einsum("nij,nj->ni", projection_jacobian(P, problem.camera), np.einsum("nji,nj->ni", R, along))
    sigma_px = config.solver.sigma_px * max(problem.camera.width / 640, 0.4)
    with np.errstate(invalid="ignore"):
        prior = (problem.obs_range_m / problem.obs_range_sigma_m) ** 2
    information = np.where(good, (moved**2).sum(1) / sigma_px**2 + np.where(np.isfinite(prior), prior, 0), 0)
    total = np.bincount(problem.obs_point, information, minlength=len(landmarks))
    landmark_map.sigma_log[landmarks] = np.clip(1 / np.sqrt(np.maximum(total, 1e-6)), 0.003, 1.0)


def _best_observed(landmark_map: LandmarkMap, rows: Ids, largest: int) -> SomeIds:
    """Keep the landmarks with most observations until their observations fill the budget."""
    landmarks = landmark_map.obs_landmark[rows]
    seen = np.bincount(landmarks, minlength=len(landmark_map.points))
    order = np.argsort(-seen, kind="stable")
    keep = np.zeros(len(seen), bool)
    keep[order[np.cumsum(seen[order]) <= largest]] = True
    return rows[keep[landmarks]]
