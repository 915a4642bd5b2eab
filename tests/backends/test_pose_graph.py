"""The pose graph backend: on simulated front ends with known faults, and on images of a room."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from remov3r.backends.features import FeatureConfig
from remov3r.backends.g2o import read_g2o
from remov3r.backends.pose_graph import PoseGraphBackend, PoseGraphConfig
from remov3r.backends.pose_graph_depth import coarse_depth, log_scale_between
from remov3r.backends.pose_graph_noise import NoiseConfig, frame_covariances, fused
from remov3r.backends.pose_graph_types import GraphConfig
from remov3r.backends.registry import create_backend
from remov3r.backends.tracking import TrackerConfig
from remov3r.config import Config
from remov3r.errors import ConfigError, DataError
from remov3r.frontends.sensor import SensorFrontEnd
from remov3r.frontends.simulated import SimulatedConfig, SimulatedFrontEnd, random_motion
from remov3r.geometry import inverse, umeyama
from remov3r.protocols import Backend
from remov3r.types import Frame, FrameEstimate, PoseKind, RelativePose, TrackedPose, TrackingState
from tests.backends.room import CAMERA, prediction, room_depth
from tests.backends.simulated_front_end import (
    SimulatedLoops,
    ate,
    blank_frames,
    covariance,
    ring,
)
from tests.backends.textured_room import (
    DepthOnlyFrontEnd,
    ExactFrontEnd,
    drive,
    frames,
    path,
    position_errors,
)

COUNT = 100
TRUTH = ring(COUNT, laps=2)
BLANK = blank_frames(COUNT)
BLIND = prediction(np.zeros((CAMERA.height, CAMERA.width)))
SMALL = PoseGraphConfig(
    tracker=TrackerConfig(features=FeatureConfig(corners=120)), keyframe_frames=6, loop_closure=False
)
OWN_SCALES = SMALL.model_copy(update={"graph": GraphConfig(similarity=True)})
POSES = path(30)


@pytest.fixture(scope="module")
def room() -> list[Frame]:
    return frames(POSES)


def simulated(
    seed: int,
    drift: float,
    scale: float = 1.0,
    scale_drift: float = 0.0,
    boast: float | None = 1.0,
    wrong: float = 0.0,
    looped: bool = True,
    similarity: bool = False,
) -> tuple[SimulatedFrontEnd, PoseGraphBackend]:
    random = np.random.default_rng(seed)
    faults = SimulatedConfig(drift=drift, scale=scale, scale_drift=scale_drift, boast=boast, keyframe_every=5)
    front_end = SimulatedFrontEnd(TRUTH, random, faults)
    finder = SimulatedLoops(TRUTH, random, wrong, front_end.scales)
    config = PoseGraphConfig(loop_closure=looped, graph=GraphConfig(similarity=similarity))
    backend = PoseGraphBackend(config, lambda camera: finder)
    drive(BLANK, front_end, backend)
    backend.finish()
    return front_end, backend


def poses(backend: Backend) -> np.ndarray:
    return np.stack(list(backend.poses().values()))


def aligned_ate(estimate: np.ndarray, with_scale: bool) -> float:
    alignment = umeyama(estimate[:, :3, 3], TRUTH[:, :3, 3], with_scale)
    assert alignment is not None
    return ate(alignment.apply_to_poses(estimate), TRUTH)


@pytest.mark.parametrize("drift", [0.01, 0.1])
@pytest.mark.parametrize(
    "fault", [{}, {"scale": 1.15}, {"boast": 10.0}, {"boast": 0.1}, {"boast": None}], ids=str
)
def test_loops_take_a_third_of_the_error_of_any_front_end_away(
    drift: float, fault: dict[str, float | None]
) -> None:
    front_end, backend = simulated(0, drift, **fault)  # type: ignore[arg-type]
    assert aligned_ate(poses(backend), True) < 0.7 * aligned_ate(front_end.poses, True)
    assert aligned_ate(poses(backend), False) < 1.02 * aligned_ate(front_end.poses, False)


@pytest.mark.parametrize("similarity", [False, True])
@pytest.mark.parametrize("fault", [{}, {"scale": 0.8}, {"boast": 10.0}, {"scale_drift": 0.01}], ids=str)
def test_without_loops_it_is_the_front_end(similarity: bool, fault: dict[str, float]) -> None:
    front_end, backend = simulated(1, 0.05, looped=False, similarity=similarity, **fault)
    assert np.allclose(poses(backend), front_end.poses, atol=1e-5)


def test_wrong_loops_are_left_out_and_counted() -> None:
    front_end, backend = simulated(2, 0.03, wrong=0.3)
    assert aligned_ate(poses(backend), True) < 0.7 * aligned_ate(front_end.poses, True)
    assert any("loops contradict the rest" in note for note in backend.finish())


def test_a_drifting_scale_is_taken_out() -> None:
    front_end, backend = simulated(3, 0.02, scale_drift=0.02, similarity=True)
    assert aligned_ate(poses(backend), True) < 0.3 * aligned_ate(front_end.poses, True)
    assert ate(poses(backend), TRUTH) < 0.3 * ate(front_end.poses, TRUTH)


def test_covariances_of_every_frame_are_honest() -> None:
    nees = []
    for seed in range(3):
        backend = simulated(seed, 0.03)[1]
        estimates, covariances = backend.poses(), backend.covariances()
        assert sorted(covariances) == list(range(COUNT))
        for i in range(1, COUNT):
            error = inverse(estimates[i]) @ TRUTH[i]
            e = np.concatenate([Rotation.from_matrix(error[:3, :3]).as_rotvec(), error[:3, 3]])
            nees.append(e @ np.linalg.solve(covariances[i], e))
    assert 0.3 * 6 < np.mean(nees) < 3 * 6


def test_a_frames_covariance_is_its_keyframes_carried_over_and_its_own() -> None:
    # The adjoint against a sample: keyframe and frame perturbed, the world pose's error collected.
    random = np.random.default_rng(0)
    T_key_cam = random_motion(random, 0.5, 1.0)
    sigma_key, sigma_own, scale = 0.01, 0.004, 1.7
    errors = []
    for _ in range(1500):
        key, own = random.normal(size=7) * sigma_key, random.normal(size=6) * sigma_own
        true = T_key_cam @ moved(own)
        D = moved(key[:6])
        D[:3, 3] *= scale
        true[:3, 3] *= scale * np.exp(key[6])
        estimate = T_key_cam.copy()
        estimate[:3, 3] *= scale
        error = inverse(estimate) @ D @ true
        errors.append([*Rotation.from_matrix(error[:3, :3]).as_rotvec(), *error[:3, 3]])
    keyframe, local = np.eye(7)[None] * sigma_key**2, np.eye(6)[None] * sigma_own**2
    C = frame_covariances(keyframe, np.array([scale]), T_key_cam[None], local)[0]
    assert np.allclose(C, np.cov(np.array(errors).T), atol=0.1 * np.abs(C).max())


def moved(xi: np.ndarray) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_rotvec(xi[:3]).as_matrix(), xi[3:]
    return T


def test_the_same_run_gives_the_same_bits() -> None:
    a, b = (simulated(4, 0.05, wrong=0.3)[1] for _ in range(2))
    assert np.array_equal(poses(a), poses(b))
    both = [np.stack(list(backend.covariances().values())) for backend in (a, b)]
    assert np.array_equal(both[0], both[1])


def test_the_graph_can_be_written(tmp_path: Path) -> None:
    _, backend = simulated(5, 0.05, scale=0.9, similarity=True)
    backend.write_g2o(tmp_path / "graph.g2o")
    keyframes, edges = read_g2o(tmp_path / "graph.g2o")
    assert list(keyframes) == list(range(0, COUNT, 5))
    assert len(edges) > len(keyframes)
    everything = backend.poses()
    for index, T in keyframes.items():
        assert np.allclose(T, everything[index], atol=1e-12)
    ways = [inverse(keyframes[e.from_index]) @ keyframes[e.to_index] @ inverse(e.T_from_to) for e in edges]
    assert max(np.abs(w - np.eye(4)).max() for w in ways) < 0.3


def test_images_refine_what_the_sensor_sees(room: list[Frame]) -> None:
    backend = PoseGraphBackend(SMALL)
    answers = drive(room, SensorFrontEnd(), backend)
    assert backend.finish() == ()
    assert position_errors(backend, POSES).max() < 0.025
    assert all(a.state is TrackingState.OK for a in answers)
    assert 3 < sum(a.is_keyframe for a in answers) < 15
    assert len(backend.landmarks(0)[0]) == 0


def test_images_correct_a_front_end_that_drifts(room: list[Frame]) -> None:
    class Drifting(ExactFrontEnd):
        def process(self, frame: Frame) -> FrameEstimate:
            made = super().process(frame)
            T = made.T_key_cam.copy()
            T[:3, 3] *= 1.5
            return FrameEstimate(
                made.frame_index, made.keyframe_index, T, made.T_world_key, None, np.eye(6) * 0.01, made.dense
            )

    refined, alone = PoseGraphBackend(SMALL), create_backend("none")
    drive(room, Drifting(relative_sigma=0.01), refined)
    drive(room, Drifting(), alone)
    refined.finish()
    assert position_errors(refined, POSES).mean() < 0.5 * position_errors(alone, POSES).mean()


def test_a_front_end_that_believes_to_stand_still_holds_nothing_back(room: list[Frame]) -> None:
    class StandsStill(DepthOnlyFrontEnd):
        def promote(self) -> FrameEstimate:
            return replace(super().promote(), T_world_key=np.eye(4))

    tight = SMALL.model_copy(update={"noise": NoiseConfig(global_rad=0.05, global_m=0.05)})
    free, held = PoseGraphBackend(SMALL), PoseGraphBackend(tight)
    for backend, front_end in ((free, DepthOnlyFrontEnd()), (held, StandsStill())):
        drive(room, front_end, backend)
        backend.finish()
    assert position_errors(held, POSES).mean() < 1.1 * position_errors(free, POSES).mean()


def test_keyframes_own_scales_are_found_from_their_depths(room: list[Frame]) -> None:
    # Depth of keyframes is 0, 20 and 10 % too large in turn.
    factors = (1.0, 1.2, 1.1)
    rigid, scaled = PoseGraphBackend(SMALL), PoseGraphBackend(OWN_SCALES)
    for backend in (rigid, scaled):
        drive(room, DepthOnlyFrontEnd(factors), backend)
        backend.finish()
    assert position_errors(scaled, POSES).max() < 0.03
    assert position_errors(scaled, POSES).mean() < 0.5 * position_errors(rigid, POSES).mean()
    pixels, depth_m = scaled.landmarks(6)
    truth = room[6].depth_m
    assert truth is not None
    x, y = np.clip(np.rint(pixels).astype(int).T, 0, [[CAMERA.width - 1], [CAMERA.height - 1]])
    assert np.median(depth_m / truth[y, x]) == pytest.approx(1.0, abs=0.03)


def test_the_ratio_of_two_keyframes_scales() -> None:
    T = np.stack([POSES[0], POSES[4]])
    first = coarse_depth(prediction(room_depth(T[0])))
    second = coarse_depth(prediction(1.25 * room_depth(T[1])))
    found = log_scale_between(first, second, inverse(T[0]) @ T[1], 0.01)
    assert found is not None
    assert found[0] == pytest.approx(-np.log(1.25), abs=0.01)
    assert 0.01 <= found[1] < 0.02
    away = np.diag([-1.0, 1.0, -1.0, 1.0])  # looks the other way
    assert log_scale_between(first, second, away, 0.01) is None


def test_two_measurements_are_joined_unless_they_contradict_each_other() -> None:
    T, shift = np.eye(4), np.eye(4)
    shift[0, 3] = 0.02
    a, b = covariance(0.01, 0.01), covariance(0.01, 0.02)
    joined, C = fused(T, a, shift, b)
    assert joined[0, 3] == pytest.approx(0.02 * 0.2)
    assert C[3, 3] == pytest.approx(1 / (1 / 0.01**2 + 1 / 0.02**2))
    shift[0, 3] = 0.5
    alone, C = fused(T, a, shift, b)
    assert np.array_equal(alone, T)
    assert np.array_equal(C, a)
    other, C = fused(T, a, shift, b, a_doubtful=True)
    assert np.array_equal(other, shift)
    assert np.array_equal(C, b)


def test_lost_in_the_dark_and_found_by_a_keyframe() -> None:
    dark = range(12, 20)
    sequence = frames(POSES, dark)

    class Finder(SimulatedLoops):
        def relocalise(self, gray: object, descriptor: object) -> RelativePose | None:
            return self.loop

        loop: RelativePose | None = None

    finder = Finder(POSES, np.random.default_rng(0), skip=1000)
    config = SMALL.model_copy(update={"loop_closure": True})
    backend, front_end = PoseGraphBackend(config, lambda camera: finder), SensorFrontEnd()
    states = []
    for i, frame in enumerate(sequence):
        T = inverse(POSES[0]) @ POSES[i]
        finder.loop = RelativePose(0, -1, T, PoseKind.LOOP, covariance(0.001, 0.002), 30)
        states += [a.state for a in drive_one(frame, front_end, backend)]
    notes = backend.finish()
    assert TrackingState.LOST in states[12:20]
    assert all(s is not TrackingState.OK for s in states[12:20])
    assert states[-1] is TrackingState.OK
    errors = position_errors(backend, POSES)
    assert errors[:12].max() < 0.025
    assert errors[22:].max() < 0.05
    assert len(notes) > 0


def drive_one(frame: Frame, front_end: SensorFrontEnd, backend: PoseGraphBackend) -> list[TrackedPose]:
    estimate = front_end.process(frame)
    answer = backend.track(frame, estimate)
    if estimate.is_keyframe or backend.wants_keyframe():
        answer = backend.add_keyframe(frame, estimate if estimate.is_keyframe else front_end.promote())
    return [answer]


def test_poses_that_are_no_numbers_are_noted_and_held() -> None:
    class Broken(SimulatedFrontEnd):
        def process(self, frame: Frame) -> FrameEstimate:
            made = super().process(frame)
            if frame.index not in (7, 8, 20, 33):
                return made
            T_world_key = None if made.T_world_key is None else np.full((4, 4), np.nan)
            return FrameEstimate(
                frame.index, made.keyframe_index, np.full((4, 4), np.nan), T_world_key, dense=made.dense
            )

    backend = PoseGraphBackend(PoseGraphConfig(loop_closure=False))
    answers = drive(
        BLANK[:40],
        Broken(TRUTH, np.random.default_rng(0), SimulatedConfig(drift=0.01, keyframe_every=5)),
        backend,
    )
    notes = backend.finish()
    assert sum("NaN" in note for note in notes) == 1
    assert all("\n" not in note for note in notes)
    assert answers[7].state is not TrackingState.OK
    assert np.isfinite(poses(backend)).all()
    assert sorted(backend.poses()) == list(range(40))


def test_nothing_one_frame_and_misuse() -> None:
    backend = PoseGraphBackend(PoseGraphConfig(loop_closure=False))
    assert backend.finish() == ()
    assert backend.poses() == {}
    assert backend.covariances() == {}
    assert not backend.wants_keyframe()
    backend = PoseGraphBackend(PoseGraphConfig(loop_closure=False))
    first = FrameEstimate(0, 0, np.eye(4), dense=BLIND)
    with pytest.raises(DataError, match="after track"):
        backend.add_keyframe(BLANK[0], first)
    backend.track(BLANK[0], first)
    with pytest.raises(DataError, match="dense"):
        backend.add_keyframe(BLANK[0], FrameEstimate(0, 0, np.eye(4)))
    backend.add_keyframe(BLANK[0], first)
    assert backend.finish() == ()
    assert np.array_equal(backend.poses()[0], np.eye(4))
    assert backend.covariances()[0].max() < 1e-11


def test_the_registry_makes_it_and_refuses_other_configurations() -> None:
    assert isinstance(create_backend("pose_graph", SMALL), PoseGraphBackend)
    with pytest.raises(ConfigError, match="PoseGraphConfig"):
        create_backend("pose_graph", Config())
    assert isinstance(create_backend("pose_graph"), Backend)
