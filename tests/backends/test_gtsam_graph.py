"""The pose graph: closed loops, wrong loops, drifting scale, honest covariances, and what it refuses."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from remov3r.backends import gtsam_graph
from remov3r.backends.gtsam_graph import PoseGraph
from remov3r.backends.pose_graph_types import Edge, GraphConfig, Prior
from remov3r.errors import DataError, MissingDependencyError
from remov3r.frontends.simulated import random_motion
from remov3r.geometry import inverse
from tests.backends.simulated_front_end import ate, chained, covariance, loops, odometry, ring

COUNT = 50
TRUTH = ring(COUNT, laps=2)
SIGMAS = 0.01, 0.02


def graph_of(
    edges: list[Edge], loop_edges: Sequence[Edge] = (), config: GraphConfig | None = None
) -> PoseGraph:
    graph = PoseGraph(config)
    for index, T in enumerate(chained(edges)):
        graph.add_pose(index, T)
    for edge in edges:
        graph.add_between(edge)
    for edge in loop_edges:
        graph.add_loop(edge)
    return graph


def poses(graph: PoseGraph) -> np.ndarray:
    return np.stack([state.T_world_key for state in graph.states().values()])


def lap_pairs(random: np.random.Generator, count: int = 20) -> list[tuple[int, int]]:
    """Pairs of poses one lap apart."""
    pairs = [(a, a + COUNT // 2 + d) for a in range(COUNT // 2 - 1) for d in (-1, 0, 1)]
    return [pairs[i] for i in random.permutation(len(pairs))[:count]]


def scene(seed: int, wrong: int) -> tuple[list[Edge], list[Edge]]:
    random = np.random.default_rng(seed)
    edges = odometry(TRUTH, random, *SIGMAS)
    return edges, loops(TRUTH, lap_pairs(random), random, 0.005, 0.01, wrong)


def test_a_ring_without_noise_stays_exact() -> None:
    random = np.random.default_rng(0)
    edges = odometry(TRUTH, random, 1e-9, 1e-9)
    edges = [Edge(e.from_index, e.to_index, e.T_from_to, covariance(0.01, 0.01)) for e in edges]
    graph = graph_of(edges, loops(TRUTH, [(0, COUNT - 1)], random, 1e-9, 1e-9))
    assert graph.optimise().accepted
    assert graph.close().accepted
    assert np.allclose(poses(graph), TRUTH, atol=1e-6)


def test_one_loop_takes_a_third_of_the_error_away() -> None:
    before, after = [], []
    for seed in range(10):
        random = np.random.default_rng(seed)
        truth = ring(40)
        edges = odometry(truth, random, *SIGMAS)
        graph = graph_of(edges, loops(truth, [(0, 39)], random, 0.002, 0.005))
        assert graph.close().accepted
        before.append(ate(chained(edges), truth))
        after.append(ate(poses(graph), truth))
    assert np.mean(after) < 0.7 * np.mean(before)


def test_wrong_loops_are_sorted_out_at_forty_percent() -> None:
    recovered, exact = 0, 0
    for seed in range(30):
        edges, loop_edges = scene(seed, wrong=8)
        best = graph_of(edges, loop_edges[8:])
        best.close()
        graph = graph_of(edges, loop_edges)
        assert graph.close().accepted
        recovered += ate(poses(graph), TRUTH) <= 1.25 * ate(poses(best), TRUTH)
        exact += bool(graph.wrong[:8].all() and not graph.wrong[8:].any())
    assert recovered >= 29
    assert exact >= 20


def test_a_robust_kernel_alone_would_not_do() -> None:
    gtsam = pytest.importorskip("gtsam")
    recovered = 0
    for seed in range(10):
        edges, loop_edges = scene(seed, wrong=8)
        best = graph_of(edges, loop_edges[8:])
        best.close()
        factors, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
        for index, T in enumerate(chained(edges)):
            values.insert(index, gtsam.Pose3(T))
        factors.add(gtsam.PriorFactorPose3(0, gtsam.Pose3(), gtsam.noiseModel.Isotropic.Sigma(6, 1e-6)))
        huber = gtsam.noiseModel.mEstimator.Huber.Create(1.345)
        for edge in [*edges, *loop_edges]:
            noise = gtsam.noiseModel.Gaussian.Covariance(edge.covariance)
            if edge in loop_edges:
                noise = gtsam.noiseModel.Robust.Create(huber, noise)
            T = gtsam.Pose3(edge.T_from_to)
            factors.add(gtsam.BetweenFactorPose3(edge.from_index, edge.to_index, T, noise))
        result = gtsam.LevenbergMarquardtOptimizer(factors, values).optimize()
        estimate = np.stack([result.atPose3(i).matrix() for i in range(COUNT)])
        recovered += ate(estimate, TRUTH) <= 1.25 * ate(poses(best), TRUTH)
    assert recovered <= 5


@pytest.mark.parametrize("boast", [4.0, 10.0])
def test_loops_win_against_measurements_that_say_they_are_better_than_they_are(boast: float) -> None:
    edges, loop_edges = scene(3, wrong=6)
    boasting = [Edge(e.from_index, e.to_index, e.T_from_to, e.covariance / boast**2) for e in edges]
    graph = graph_of(boasting, loop_edges)
    result = graph.close()
    assert result.accepted
    assert result.sigma_factor > 1
    assert graph.wrong[:6].all()
    assert ate(poses(graph), TRUTH) < 0.6 * ate(chained(edges), TRUTH)


def test_loops_that_are_all_wrong_do_no_harm() -> None:
    worse = []
    for seed in range(10):
        edges, loop_edges = scene(seed, wrong=12)
        graph = graph_of(edges, loop_edges[:12])
        graph.close()
        worse.append(ate(poses(graph), TRUTH) / ate(chained(edges), TRUTH))
    assert np.median(worse) < 1.02


def test_drifting_scale_is_recovered_from_one_loop() -> None:
    random = np.random.default_rng(5)
    truth = ring(40)
    scales = np.exp(0.02 * np.arange(40))  # what turns each keyframe's lengths into metres
    edges = [in_own_lengths(e, scales) for e in odometry(truth, random, 0.003, 0.005)]
    closing = loops(truth, [(0, 39)], random, 0.002, 0.005)[0]
    closing = Edge(0, 39, closing.T_from_to, closing.covariance, np.log(scales[39]), 0.02)
    rigid = graph_of(edges, [closing])
    graph = graph_of(edges, [closing], GraphConfig(similarity=True))
    assert rigid.close().accepted
    assert graph.close().accepted
    assert ate(poses(graph), truth) < 0.12 * ate(chained(edges), truth)
    assert ate(poses(graph), truth) < 0.5 * ate(poses(rigid), truth)
    found = np.array([state.scale for state in graph.states().values()])
    assert np.abs(np.log(found / scales)).max() < 0.15
    assert next(iter(graph.covariances().values())).shape == (7, 7)


def in_own_lengths(edge: Edge, scales: np.ndarray) -> Edge:
    T = edge.T_from_to.copy()
    T[:3, 3] /= scales[edge.from_index]
    return Edge(edge.from_index, edge.to_index, T, edge.covariance, 0.0, 0.04)


@pytest.mark.parametrize("similarity", [False, True])
def test_covariances_are_honest(similarity: bool) -> None:
    nees = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        truth = ring(30)
        edges = odometry(truth, random, *SIGMAS)
        edges = [Edge(e.from_index, e.to_index, e.T_from_to, e.covariance, 0.0, 1e-4) for e in edges]
        graph = graph_of(
            edges, loops(truth, [(0, 29), (3, 28)], random, 0.01, 0.02), GraphConfig(similarity=similarity)
        )
        graph.close()
        for index, C in list(graph.covariances().items())[1:]:
            error = inverse(graph.state(index).T_world_key) @ truth[index]
            e = np.concatenate([Rotation.from_matrix(error[:3, :3]).as_rotvec(), error[:3, 3]])
            nees.append(e @ np.linalg.solve(C[:6, :6], e))
    assert 0.3 * 6 < np.mean(nees) < 3 * 6
    assert np.mean(nees) == pytest.approx(6, rel=0.3)


def test_a_chains_covariance_is_the_one_worked_by_hand() -> None:
    # Two steps of 1 m along x: the rotation noise of the first turns the second about its start.
    step = np.eye(4)
    step[0, 3] = 1.0
    graph = graph_of([Edge(i, i + 1, step, covariance(0.1, 0.2)) for i in range(2)])
    C = graph.covariances()[2]
    expected = np.diag([0.02, 0.02, 0.02, 0.08, 0.08 + 0.01, 0.08 + 0.01])
    expected[2, 4] = expected[4, 2] = 0.01  # a turn about z moves the end along y
    expected[1, 5] = expected[5, 1] = -0.01  # one about y moves it against z
    assert np.allclose(C, expected, atol=1e-8)


def test_online_and_closing_answers_are_the_same_bits_each_time() -> None:
    def run() -> tuple[np.ndarray, np.ndarray]:
        edges, loop_edges = scene(1, wrong=8)
        graph = graph_of(edges[:30], [e for e in loop_edges if e.to_index <= 30])
        graph.optimise()
        T = chained(edges)
        for index in range(31, COUNT):
            graph.add_pose(index, T[index])
            graph.add_between(edges[index - 1])
            graph.optimise()
        online = poses(graph)
        graph.close()
        return online, poses(graph)

    (a_online, a), (b_online, b) = run(), run()
    assert np.array_equal(a_online, b_online)
    assert np.array_equal(a, b)


def test_one_by_one_is_as_good_as_all_at_once() -> None:
    edges, loop_edges = scene(2, wrong=0)
    batch = graph_of(edges, loop_edges)
    batch.close()
    graph = PoseGraph()
    for index, T in enumerate(chained(edges)):
        graph.add_pose(
            index, T if index == 0 else graph.state(index - 1).T_world_key @ edges[index - 1].T_from_to
        )
        if index:
            graph.add_between(edges[index - 1])
        for edge in loop_edges:
            if edge.to_index == index:
                graph.add_loop(edge)
        assert graph.optimise().accepted
    assert ate(poses(graph), TRUTH) < 1.5 * ate(poses(batch), TRUTH)
    assert graph.close().accepted
    assert np.allclose(poses(graph), poses(batch), atol=1e-4)


def test_keyframes_that_nothing_holds_are_rejected_and_nothing_changes() -> None:
    edges, _ = scene(0, wrong=0)
    graph = graph_of(edges)
    assert graph.optimise().accepted
    before = poses(graph)
    for index in (100, 101):
        graph.add_pose(index, np.eye(4))
    graph.add_between(Edge(100, 101, np.eye(4), covariance(0.01, 0.01)))
    assert not graph.optimise().accepted
    assert np.array_equal(poses(graph)[:COUNT], before)
    assert graph.covariances() == {}
    graph.add_between(Edge(COUNT - 1, 100, np.eye(4), covariance(0.01, 0.01)))
    assert graph.optimise().accepted  # it goes on as soon as the graph is whole
    assert len(graph.covariances()) == COUNT + 2


def test_a_result_that_fits_worse_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    edges, loop_edges = scene(0, wrong=8)
    graph = graph_of(edges)
    graph.optimise()
    before = poses(graph)
    for edge in loop_edges:
        graph.add_loop(edge)
    with monkeypatch.context() as patch:
        patch.setattr(PoseGraph, "_is_better", lambda *_: False)
        assert not graph.optimise().accepted
        assert not graph.close().accepted
    assert np.array_equal(poses(graph), before)
    assert graph.close().accepted
    assert ate(poses(graph), TRUTH) < 0.7 * ate(before, TRUTH)


def test_priors_are_loose_and_robust() -> None:
    edges, _ = scene(0, wrong=0)
    graph, start = graph_of(edges), chained(edges)
    loose = covariance(0.05, 0.05)
    for index in range(10, COUNT):
        wild = index % 5 == 0
        T = TRUTH[index] @ random_motion(np.random.default_rng(index), 0.0, 3.0 if wild else 0.02)
        graph.add_prior(Prior(index, T, loose))
    assert graph.close().accepted
    assert ate(poses(graph), TRUTH) < 0.4 * ate(start, TRUTH)


def test_nothing_and_one_keyframe_are_fine() -> None:
    graph = PoseGraph()
    assert graph.close().accepted
    assert graph.states() == {}
    assert graph.covariances() == {}
    graph.add_pose(4, np.eye(4))
    assert graph.optimise().accepted
    assert graph.close().accepted
    assert np.array_equal(graph.state(4).T_world_key, np.eye(4))
    assert graph.covariances()[4].max() < 1e-11


def bad_edges() -> list[tuple[Edge, str]]:
    good, nan, skew = covariance(0.01, 0.01), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 1.5, 1.0])
    return [
        (Edge(0, 1, nan, good), "0 -> 1: pose holds NaN"),
        (Edge(0, 1, skew, good), "not a rigid pose"),
        (Edge(0, 1, np.eye(4), -good), "positive definite"),
        (Edge(0, 1, np.eye(4), good * np.nan), "positive definite"),
        (Edge(0, 77, np.eye(4), good), "no keyframe 77"),
        (Edge(1, 1, np.eye(4), good), "to itself"),
        (Edge(0, 1, np.eye(4), good, np.nan, 1.0), "log scale"),
    ]


@pytest.mark.parametrize(("edge", "message"), bad_edges())
def test_measurements_that_cannot_be_are_refused_in_one_line(edge: Edge, message: str) -> None:
    graph = graph_of(scene(0, wrong=0)[0])
    for add in (graph.add_between, graph.add_loop):
        with pytest.raises(DataError, match=message) as caught:
            add(edge)
        assert "\n" not in str(caught.value)
    assert len(graph.edges) == COUNT - 1
    assert len(graph.loops) == len(graph.wrong) == 0


def test_keyframes_that_cannot_be_are_refused() -> None:
    graph = PoseGraph()
    with pytest.raises(DataError, match="keyframe 3: pose holds NaN"):
        graph.add_pose(3, np.full((4, 4), np.nan))
    with pytest.raises(DataError, match="scale -1"):
        graph.add_pose(3, np.eye(4), -1.0)
    graph.add_pose(3, np.eye(4))
    with pytest.raises(DataError, match="already"):
        graph.add_pose(3, np.eye(4))
    with pytest.raises(DataError, match="no keyframe 5"):
        graph.state(5)
    with pytest.raises(DataError, match="prior of keyframe 3: pose holds NaN"):
        graph.add_prior(Prior(3, np.full((4, 4), np.nan), np.eye(6)))


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gtsam_graph, "gtsam", None)
    with pytest.raises(MissingDependencyError, match=r"remov3r\[slam\]"):
        PoseGraph()
