"""Bonn RGB-D Dynamic: TUM's layout, with a camera and a ground truth of its own.

groundtruth.txt holds the motion capture's pose of the markers on the sensor, in a world with other axes. With the
two matrices of the data set's page, the camera's pose is T_ros⁻¹ · T_groundtruth · T_ros · T_m. T_m as published is
a rotation times 1.0593; a pose is rigid, so the scale is left out of it here, and the depth stays as stored
(5000 units a metre).

References: https://www.ipb.uni-bonn.de/data/rgbd-dynamic-dataset/
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from remov3r.camera import Camera
from remov3r.data.tum import TumSequence
from remov3r.geometry import inverse, project_to_se3
from remov3r.types import Trajectory

CAMERA = Camera(
    640, 480, 542.822841, 542.576870, 315.593520, 237.756098, "radtan",
    (0.039903, -0.099343, -0.000730, -0.000144, 0.0),
)  # fmt: skip
T_ROS = np.array([[-1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
T_MARKERS_CAM = project_to_se3(
    np.array(
        [
            [1.0157, 0.1828, -0.2389, 0.0113],
            [0.0009, -0.8431, -0.6413, -0.0098],
            [-0.3009, 0.6147, -0.8085, 0.0111],
            [0, 0, 0, 1],
        ]
    )
)


class BonnSequence(TumSequence):
    """One sequence, as `TumSequence`."""

    def _default_camera(self) -> Camera:
        return CAMERA

    def _camera_truth(self, truth: Trajectory) -> Trajectory:
        return replace(truth, T_world_cam=inverse(T_ROS) @ truth.T_world_cam @ T_ROS @ T_MARKERS_CAM)
