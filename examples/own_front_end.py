"""Your own depth model as the front end: RGB in, metric trajectory and mesh out.

    python examples/own_front_end.py [VIDEO --camera FX,FY,CX,CY]

Any function from an image to metric depth will do; keyframes and motion are then the backend's business. A front end
that measures motion too fills `T_key_cam` and its covariance. Without arguments a rendered room is the video, and the
shipped network's depth stands in for your model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from remov3r import Slam, load_config, open_source
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.frontends.network import NetworkFrontEnd
from remov3r.frontends.sensor import NO_MOTION_MEASURED
from remov3r.geometry import unproject
from remov3r.pipelines.build import build_backend
from remov3r.types import DensePrediction, Frame, FrameEstimate

DepthModel = Callable[[Frame], np.ndarray]
RELATIVE_SIGMA = 0.1  # how far the model's depth is off, typically


class DepthModelFrontEnd:
    """Gives each keyframe a depth map; see `remov3r.protocols.FrontEnd`."""

    def __init__(self, depth_m_of: DepthModel) -> None:
        self._depth_m_of = depth_m_of
        self._frame: Frame | None = None
        self._keyframe = -1

    def process(self, frame: Frame) -> FrameEstimate:
        """Say of each frame that its motion is for the backend to measure; the first is a keyframe."""
        self._frame = frame
        if self._keyframe < 0:
            return self.promote()
        return FrameEstimate(frame.index, self._keyframe, np.eye(4), covariance=NO_MOTION_MEASURED)

    def prepare(self, frame: Frame) -> None:
        """Nothing is done ahead."""

    def promote(self) -> FrameEstimate:
        """Predict depth, because the backend wants this frame as keyframe."""
        frame = self._frame
        assert frame is not None
        depth_m = self._depth_m_of(frame).astype(np.float32)
        camera = frame.camera.resized(depth_m.shape[1], depth_m.shape[0])
        sigma_m = np.where(depth_m > 0, RELATIVE_SIGMA * depth_m, np.inf).astype(np.float32)
        confidence = (1 / sigma_m).astype(np.float32)
        points = unproject(depth_m, camera)
        dense = DensePrediction(camera, depth_m, confidence, points, confidence, sigma_m)
        self._keyframe = frame.index
        return FrameEstimate(frame.index, frame.index, np.eye(4), covariance=NO_MOTION_MEASURED, dense=dense)


def shipped_network() -> DepthModel:
    """Return the depth of the network that ships with the package, as a plain function of an image."""
    network = NetworkFrontEnd(load_config("lite").network)

    def depth_m_of(frame: Frame) -> np.ndarray:
        estimate = network.process(frame)
        dense = estimate.dense or network.promote().dense
        assert dense is not None
        return dense.depth_m

    return depth_m_of


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("video", nargs="?", help="a video, a folder of images or a data set")
    parser.add_argument("--camera", help="fx,fy,cx,cy or a calibration file")
    parser.add_argument("--frames", type=int, default=150, help="of the rendered room")
    arguments = parser.parse_args()
    source = (
        open_source(arguments.video, camera=arguments.camera)
        if arguments.video
        else SyntheticSource(seed=5, n_frames=arguments.frames)
    )
    config = load_config("lite")
    with Slam(DepthModelFrontEnd(shipped_network()), build_backend(config), config) as slam:
        for frame in source:
            slam.track(frame)
        result = slam.finish()
    print(f"{len(result.trajectory)} poses, {len(result.keyframes)} keyframes")
    print("mesh:", "none" if result.mesh is None else f"{len(result.mesh.vertices_m)} vertices")
    for note in result.notes:
        print("note:", note)


if __name__ == "__main__":
    main()
