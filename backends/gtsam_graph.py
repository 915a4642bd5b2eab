"""The pose graph by GTSAM behind a few verbs: 4×4 arrays and keyframe numbers in and out.

A node is a keyframe: its pose in the world and, where the front end's scale drifts, the factor that turns its
own lengths into metres (GTSAM's Similarity3). Measurements from keyframe to keyframe are trusted; loops are
not: they stand behind a robust kernel until `close` sorts the wrong ones out by graduated non-convexity.

References: Kaess et al. 2012 (iSAM2); Yang et al. 2020 (GNC); Strasdat et al. 2010 (scale drift).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from remov3r.backends.pose_graph_types import (
    Edge,
    GraphConfig,
    GraphResult,
    GraphState,
    GraphUpdate,
    Prior,
    checked_edge,
    positive_covariance,
    rigid_pose,
)
from remov3r.errors import DataError, MissingDependencyError
from remov3r.geometry import project_to_se3
from remov3r.types import Covariance, Pose

try:
    import gtsam
except ImportError:  # pragma: no cover - depends on the installation; `require_gtsam` tells
    gtsam = None  # type: ignore[assignment]

_ANCHOR_SIGMA = 1e-6  # radians and metres that the first keyframe may move
_UNKNOWN_LOG_SCALE_SIGMA = 10.0
_ONLINE_SLACK = 0.1  # iSAM2 does not linearise anew what has hardly moved, so its fit may be a little worse


def require_gtsam() -> None:
    """Make sure that the optimiser can run; configurations can be read without it.

    Raises:
        MissingDependencyError: gtsam is not installed.
    """
    if gtsam is None:
        raise MissingDependencyError(
            "the pose_graph backend needs gtsam: pip install 'remov3r[slam]', or run with --backend none"
        )


class PoseGraph:
    """A graph of keyframes, keyed by frame index, with the last good state of each.

    Attributes:
        edges, loops: all measurements so far, trusted and doubtful ones.
        wrong: which of the loops are left out.
    """

    def __init__(self, config: GraphConfig | None = None) -> None:
        require_gtsam()
        self._config = config or GraphConfig()
        self._nodes: _Rigid | _Scaled = _Scaled() if self._config.similarity else _Rigid()
        self._values = gtsam.Values()
        self._indices: list[int] = []
        self._priors: list[Prior] = []
        self.edges: list[Edge] = []
        self.loops: list[Edge] = []
        self.wrong: Bool[np.ndarray, " l"] = np.zeros(0, bool)
        self._sigma_factor = 1.0
        self._sorted = 0  # so many of the loops have been sorted into right and wrong
        self._isam: gtsam.ISAM2 | None = None
        self._known = (0, 0, 0, 0)  # how many keyframes, edges, loops and priors iSAM2 has been given
        self._given: list[GraphUpdate] = []  # all of these, in the portions in which it got them

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle keeps: GTSAM's own objects are made anew from numbers."""
        states = [self._nodes.read(self._values, index) for index in self._indices]
        own = {name: value for name, value in vars(self).items() if name not in ("_values", "_isam")}
        return own | {"states": states, "online": self._isam is not None}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        """Take what `__getstate__` returned; what iSAM2 has been through it goes through again, to the bit."""
        states, online = saved.pop("states"), saved.pop("online")
        self.__dict__.update(saved)
        self._values, self._isam = gtsam.Values(), None
        for index, state in zip(self._indices, states):
            self._nodes.insert(self._values, index, state)
        if online:
            self._isam = self._new_isam()
            for update in self._given:
                self._give(self._isam, update)
            self._values = self._isam.calculateEstimate()

    def __len__(self) -> int:
        return len(self._indices)

    def __contains__(self, index: int) -> bool:
        return bool(self._values.exists(index))

    def add_pose(self, index: int, T_world_key: Pose, scale: float = 1.0) -> None:
        """Add a keyframe at a first guess of its pose; the first one added stays where it is.

        Raises:
            DataError: the keyframe is there already, or the guess is not finite.
        """
        if index in self:
            raise DataError(f"keyframe {index}: is in the graph already")
        if not (np.isfinite(scale) and scale > 0):
            raise DataError(f"keyframe {index}: scale {scale} is not a positive number")
        state = GraphState(rigid_pose(T_world_key, f"keyframe {index}"), scale)
        self._nodes.insert(self._values, index, state)
        self._indices.append(index)

    def add_prior(self, prior: Prior) -> None:
        """Add a loose measurement of a keyframe's pose in the world; it is taken robustly.

        Raises:
            DataError: the keyframe is unknown, or a number is not finite.
        """
        where = f"prior of keyframe {prior.index}"
        self._check_known(where, prior.index)
        T, covariance = rigid_pose(prior.T_world_key, where), positive_covariance(prior.covariance, where)
        self._priors.append(Prior(prior.index, T, covariance, prior.log_scale_sigma))

    def add_between(self, edge: Edge) -> None:
        """Add a trusted measurement between two keyframes.

        Raises:
            DataError: a keyframe is unknown, or a number is not finite.
        """
        self._check_known(f"edge {edge.from_index} -> {edge.to_index}", edge.from_index, edge.to_index)
        self.edges.append(checked_edge(edge, "edge"))

    def add_loop(self, edge: Edge) -> None:
        """Add a measurement between two keyframes that may be wrong.

        Raises:
            DataError: a keyframe is unknown, or a number is not finite.
        """
        self._check_known(f"loop {edge.from_index} -> {edge.to_index}", edge.from_index, edge.to_index)
        self.loops.append(checked_edge(edge, "loop"))
        self.wrong = np.append(self.wrong, False)

    def optimise(self) -> GraphResult:
        """Take in what was added since the last call (iSAM2); what makes it fail is left out until `close`."""
        if self._isam is None:
            self._known, self._given = (0, 0, 0, 0), []
        isam = self._isam if self._isam is not None else self._new_isam()
        update, loops = self._news(), self._known[2]
        try:
            self._give(isam, update)
            result = isam.calculateEstimate()
            accepted = self._is_better(isam.getFactorsUnsafe(), result, _ONLINE_SLACK)
        except RuntimeError:  # an indeterminate system
            accepted = False
        if accepted:
            self._isam, self._values = isam, result
            self._known = (len(self), len(self.edges), len(self.loops), len(self._priors))
            self._given.append(update)
        else:
            self._isam = None
            self.wrong[loops:] = True
        return self._result(accepted)

    def close(self) -> GraphResult:
        """Optimise everything at once and sort out wrong loops; a failure leaves the last good state."""
        if len(self) < 2:
            return self._result(True)
        try:
            start, wrong, sigma_factor = self._values, self.wrong, self._sigma_factor
            if self.loops:
                start, wrong, sigma_factor = self._sort_loops()
            graph = self._graph(~wrong, sigma_factor)
            result = gtsam.LevenbergMarquardtOptimizer(graph, start, self._parameters()).optimize()
            accepted = self._is_better(graph, result)
        except RuntimeError:  # an indeterminate system
            accepted = False
        if accepted:
            self._values, self.wrong, self._sigma_factor = result, wrong, sigma_factor
            self._isam, self._sorted = None, len(self.loops)
        return self._result(accepted)

    def state(self, index: int) -> GraphState:
        """Return where a keyframe is, as optimised last.

        Raises:
            DataError: the keyframe is unknown.
        """
        self._check_known(f"state of keyframe {index}", index)
        raw = self._nodes.read(self._values, index)
        return GraphState(project_to_se3(raw.T_world_key), raw.scale)

    def states(self) -> dict[int, GraphState]:
        """Return where the keyframes are, as optimised last, in the order they were added."""
        if not self._indices:
            return {}
        raw = [self._nodes.read(self._values, index) for index in self._indices]
        T = project_to_se3(np.stack([state.T_world_key for state in raw]))
        return {i: GraphState(*row) for i, *row in zip(self._indices, T, (state.scale for state in raw))}

    def covariances(self) -> dict[int, Float[np.ndarray, "d d"]]:
        """Return the marginal covariance of each keyframe: rotation, translation (and log scale), in its frame.

        Empty when the graph does not fix every keyframe. With a scale of its own, a keyframe's matrix is 7×7 and
        its translation is in the keyframe's own lengths.
        """
        try:
            marginals = gtsam.Marginals(self._graph(~self.wrong, self._sigma_factor), self._values)
            return {index: np.array(marginals.marginalCovariance(index)) for index in self._indices}
        except RuntimeError:  # an indeterminate system
            return {}

    def _news(self) -> GraphUpdate:
        """What iSAM2 has not been given yet."""
        keyframes, edges, loops, priors = self._known
        kept = np.flatnonzero(~self.wrong)
        states = {index: self._nodes.read(self._values, index) for index in self._indices[keyframes:]}
        return GraphUpdate(
            keyframes == 0,
            states,
            tuple(self.edges[edges:]),
            tuple(self.loops[i] for i in kept[(kept >= loops) & (kept < self._sorted)]),
            tuple(self.loops[i] for i in kept[kept >= max(loops, self._sorted)]),
            tuple(self._priors[priors:]),
            self._sigma_factor,
        )

    def _give(self, isam: gtsam.ISAM2, update: GraphUpdate) -> None:
        factors, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
        for index, state in update.states.items():
            self._nodes.insert(values, index, state)
        if update.anchored:
            self._add_anchor(factors, values)
        self._add_edges(factors, update.edges, update.sigma_factor)
        self._add_edges(factors, update.right)
        self._add_edges(factors, update.doubtful, robust=True)
        self._add_priors(factors, update.priors)
        isam.update(factors, values)
        for _ in range(3 if update.right or update.doubtful else 0):
            isam.update()

    def _sort_loops(self) -> tuple[gtsam.Values, Bool[np.ndarray, " l"], float]:
        """Return the state that most loops agree on, which ones do not, and what was granted to the edges."""
        first: tuple[gtsam.Values, Bool[np.ndarray, " l"], float] | None = None
        for sigma_factor in self._config.spare_sigma_factors:
            graph = self._graph(np.ones(len(self.loops), bool), sigma_factor, robust=False)
            parameters = gtsam.GncLMParams(self._parameters())
            parameters.setLossType(gtsam.GncLossType.TLS)
            parameters.setKnownInliers(list(range(1 + len(self.edges))))
            optimizer = gtsam.GncLMOptimizer(graph, self._values, parameters)
            optimizer.setInlierCostThresholdsAtProbability(self._config.inlier_probability)
            result = optimizer.optimize()
            weights = np.array(optimizer.getWeights())[1 + len(self.edges) :]
            wrong = weights[: len(self.loops)] < 0.5
            found = (result, wrong, sigma_factor)
            few = len(self.loops) < self._config.spare_min_loops
            if few or 1 - wrong.mean() >= self._config.spare_inlier_ratio:
                return found
            first = first or found
        assert first is not None
        return first

    def _graph(
        self, kept: Bool[np.ndarray, " l"], sigma_factor: float, robust: bool = True
    ) -> gtsam.NonlinearFactorGraph:
        """Anchor, edges, loops, priors, in this order."""
        graph = gtsam.NonlinearFactorGraph()
        self._add_anchor(graph, self._values)
        self._add_edges(graph, self.edges, sigma_factor)
        self._add_edges(graph, [e for e, k in zip(self.loops, kept) if k])
        self._add_priors(graph, self._priors, robust)
        return graph

    def _add_anchor(self, graph: gtsam.NonlinearFactorGraph, values: gtsam.Values) -> None:
        if self._indices:
            first = self._indices[0]
            noise = gtsam.noiseModel.Isotropic.Sigma(self._nodes.dim, _ANCHOR_SIGMA)
            graph.add(self._nodes.prior(first, self._nodes.read(values, first), noise))

    def _add_edges(
        self,
        graph: gtsam.NonlinearFactorGraph,
        edges: Sequence[Edge],
        sigma_factor: float = 1.0,
        robust: bool = False,
    ) -> None:
        for edge in edges:
            noise = self._noise(
                edge.covariance * sigma_factor**2, edge.log_scale_sigma * sigma_factor, robust
            )
            measured = GraphState(edge.T_from_to, float(np.exp(edge.log_scale)))
            graph.add(self._nodes.between(edge.from_index, edge.to_index, measured, noise))

    def _add_priors(
        self, graph: gtsam.NonlinearFactorGraph, priors: Sequence[Prior], robust: bool = True
    ) -> None:
        for prior in priors:
            noise = self._noise(prior.covariance, prior.log_scale_sigma, robust)
            graph.add(self._nodes.prior(prior.index, GraphState(prior.T_world_key), noise))

    def _noise(self, covariance: Covariance, log_scale_sigma: float, robust: bool) -> gtsam.noiseModel.Base:
        if self._nodes.dim == 7:
            full = np.zeros((7, 7))
            full[:6, :6] = covariance
            full[6, 6] = min(log_scale_sigma, _UNKNOWN_LOG_SCALE_SIGMA) ** 2
            covariance = full
        noise = gtsam.noiseModel.Gaussian.Covariance(covariance)
        if not robust:
            return noise
        kernel = gtsam.noiseModel.mEstimator.Cauchy.Create(self._config.kernel)
        return gtsam.noiseModel.Robust.Create(kernel, noise)

    def _is_better(
        self, graph: gtsam.NonlinearFactorGraph, result: gtsam.Values, slack: float = 1e-6
    ) -> bool:
        """Whether a result is finite and fits no worse than the last good state."""
        before, after = graph.error(self._values), graph.error(result)
        return bool(np.isfinite(after) and after <= before * (1 + slack) + slack)

    def _result(self, accepted: bool) -> GraphResult:
        return GraphResult(accepted, len(self.loops), int(self.wrong.sum()), self._sigma_factor)

    def _new_isam(self) -> gtsam.ISAM2:
        parameters = gtsam.ISAM2Params()
        parameters.setRelinearizeThreshold(self._config.relinearize_threshold)
        parameters.relinearizeSkip = 1
        return gtsam.ISAM2(parameters)

    def _parameters(self) -> gtsam.LevenbergMarquardtParams:
        parameters = gtsam.LevenbergMarquardtParams()
        parameters.setMaxIterations(self._config.iterations)
        parameters.setRelativeErrorTol(1e-9)
        return parameters

    def _check_known(self, where: str, *indices: int) -> None:
        for index in indices:
            if index not in self:
                raise DataError(f"{where}: there is no keyframe {index} in the graph")


class _Rigid:
    """Nodes that are poses; their scale is one."""

    dim = 6

    def insert(self, values: gtsam.Values, index: int, state: GraphState) -> None:
        """Add a node."""
        values.insert(index, gtsam.Pose3(state.T_world_key))

    def read(self, values: gtsam.Values, index: int) -> GraphState:
        """Return a node."""
        return GraphState(values.atPose3(index).matrix())

    def between(
        self, a: int, b: int, measured: GraphState, noise: gtsam.noiseModel.Base
    ) -> gtsam.NonlinearFactor:
        """Make a factor between two nodes."""
        return gtsam.BetweenFactorPose3(a, b, gtsam.Pose3(measured.T_world_key), noise)

    def prior(self, index: int, measured: GraphState, noise: gtsam.noiseModel.Base) -> gtsam.NonlinearFactor:
        """Make a factor on one node."""
        return gtsam.PriorFactorPose3(index, gtsam.Pose3(measured.T_world_key), noise)


class _Scaled:
    """Nodes that are poses with a scale; GTSAM writes p ↦ s (R p + t)."""

    dim = 7

    def insert(self, values: gtsam.Values, index: int, state: GraphState) -> None:
        """Add a node."""
        values.insert(index, _similarity(state))

    def read(self, values: gtsam.Values, index: int) -> GraphState:
        """Return a node."""
        S = values.atSimilarity3(index)
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = S.rotation().matrix(), S.scale() * S.translation()
        return GraphState(T, float(S.scale()))

    def between(
        self, a: int, b: int, measured: GraphState, noise: gtsam.noiseModel.Base
    ) -> gtsam.NonlinearFactor:
        """Make a factor between two nodes."""
        return gtsam.BetweenFactorSimilarity3(a, b, _similarity(measured), noise)

    def prior(self, index: int, measured: GraphState, noise: gtsam.noiseModel.Base) -> gtsam.NonlinearFactor:
        """Make a factor on one node."""
        return gtsam.PriorFactorSimilarity3(index, _similarity(measured), noise)


def _similarity(state: GraphState) -> gtsam.Similarity3:
    T, s = state.T_world_key, state.scale
    return gtsam.Similarity3(gtsam.Rot3(T[:3, :3]), T[:3, 3] / s, s)
