"""The backend alone, over what another front end left: loops closed, covariances, a graph for other tools.

    python examples/recorded_backend.py [--frames N]

A rendered walk that ends where it began stands in for your video, and a recording that drifts by some per cent for
the front end's output (written in the neutral format, docs/recorded.md; the folders that CUT3R, SLAM3R, MASt3R-SLAM,
VGGT-SLAM, ViSTA-SLAM and DROID-SLAM write are read as they are). The backend itself does not need torch.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from remov3r.backends.pose_graph import PoseGraphBackend
from remov3r.data.synthetic.source import SyntheticSource
from remov3r.frontends.recorded import NeutralFrame, RecordedFrontEnd, open_recording, write_recording
from remov3r.geometry import inverse, se3_exp
from remov3r.types import Frame


def drifting(frames: list[Frame], drift: float = 0.02, every: int = 10) -> Iterator[NeutralFrame]:
    """Yield what a front end might have written: steps that are too long, and turn a little to one side."""
    rng = np.random.default_rng(0)
    T, before = np.eye(4), None
    for n, frame in enumerate(frames):
        assert frame.T_world_cam is not None
        assert frame.depth_m is not None
        if before is not None:
            step = inverse(before) @ frame.T_world_cam
            step[:3, 3] *= 1 + 2 * drift
            T = T @ step @ se3_exp(np.concatenate([np.zeros(3), [0, drift / 20, 0]]) + rng.normal(0, 2e-4, 6))
        before = frame.T_world_cam
        depth = {"K": frame.camera.K, "depth_m": frame.depth_m} if n % every == 0 else {}
        yield NeutralFrame(frame.index, frame.timestamp_s, T, is_keyframe=n % every == 0, **depth)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=240)
    arguments = parser.parse_args()
    frames = list(SyntheticSource(seed=5, n_frames=arguments.frames))
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder) / "recording"
        write_recording(recording, drifting(frames), scale="metric")
        front_end, backend = RecordedFrontEnd(open_recording(str(recording))), PoseGraphBackend()
        for frame in frames:
            estimate = front_end.process(frame)
            backend.track(frame, estimate)
            if estimate.is_keyframe or backend.wants_keyframe():
                backend.add_keyframe(frame, estimate if estimate.is_keyframe else front_end.promote())
        for note in backend.finish():
            print("note:", note)
        backend.write_g2o(Path("graph.g2o"))
    poses, covariances = backend.poses(), backend.covariances()
    first, last = frames[0].T_world_cam, frames[-1].T_world_cam
    assert first is not None
    assert last is not None
    truth = inverse(first) @ last
    index = frames[-1].index
    sigma_m = np.sqrt(np.trace(covariances[index][3:, 3:]))
    off_m = np.linalg.norm(poses[index][:3, 3] - truth[:3, 3])
    print(f"{len(poses)} poses; the last is off by {100 * off_m:.1f} cm, its sigma is {100 * sigma_m:.1f} cm")
    print("the graph is in graph.g2o")


if __name__ == "__main__":
    main()
