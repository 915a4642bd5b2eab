"""An RGB-D camera: the sensor's depth instead of the network's, scored against ground truth.

    python examples/rgbd.py [SEQUENCE --dataset tum|7scenes|scannet|…]

Without arguments a rendered room with exact depth is the camera. For a live camera make `Frame`s of your own: an
index, a timestamp, RGB, the camera and `depth_m` registered to it.
"""

from __future__ import annotations

import argparse

import numpy as np

from remov3r import Slam, load_config, open_source
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.eval.trajectory import evaluate_trajectory
from remov3r.types import TrackingState, Trajectory


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sequence", nargs="?", help="a folder with colour and depth")
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--frames", type=int, default=150, help="of the rendered room")
    arguments = parser.parse_args()
    source = (
        open_source(arguments.sequence, arguments.dataset, sensor=True)
        if arguments.sequence
        else SyntheticSource(seed=5, n_frames=arguments.frames)
    )
    config = load_config("lite", ["front_end=sensor"])
    truth = []
    with Slam.from_config(config) as slam:
        for frame in source:
            tracked = slam.track(frame)
            if frame.T_world_cam is not None:
                truth.append((frame.index, frame.timestamp_s, frame.T_world_cam))
            if tracked.is_keyframe:
                print(f"{frame.timestamp_s:6.2f} s  keyframe at {tracked.T_world_cam[:3, 3].round(3)}")
        result = slam.finish()
    print(f"{len(result.trajectory)} poses, {len(result.keyframes)} keyframes")
    if truth:
        index, times_s, poses = zip(*truth)
        n = len(truth)
        reference = Trajectory(
            np.array(index), np.array(times_s), np.stack(poses), np.ones(n, bool), (TrackingState.OK,) * n
        )
        score = evaluate_trajectory(result.trajectory, reference)
        print(f"ATE {score.se3.ate_rmse_m} m, RRE {score.rre_rmse_deg}° between frames")


if __name__ == "__main__":
    main()
