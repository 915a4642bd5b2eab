"""Writes frames in further layouts of public data sets, by the forward formulas of their own documentation."""

from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from remov3r.camera import Camera
from remov3r.data.bonn import T_MARKERS_CAM, T_ROS
from remov3r.geometry import inverse, pixel_rays, quaternion_xyzw
from remov3r.types import Frame
from tests.data.helpers import write_rgb
from tests.data.layouts import pose_of, write_depth

FLIP_Y = np.diag([1.0, -1, 1, 1])
TURNED = np.eye(4)  # some rigid transform, for extrinsics
TURNED[:3, :3] = Rotation.from_euler("xyz", [0.3, -0.2, 1.1]).as_matrix()
TURNED[:3, 3] = [0.3, -0.8, 0.2]
SLIGHTLY = np.eye(4)
SLIGHTLY[:3, :3] = Rotation.from_euler("xyz", [0.01, -0.02, 0.03]).as_matrix()
SLIGHTLY[:3, 3] = [0.05, -0.07, -0.28]
SHIFT_M = np.array([0.0597, -0.0004, 0.0027])  # origin of KITTI's camera 0 seen from camera 2
LENS, NO_LENS = (-0.2834, 0.0739, 0.0002, 0.00002), (0.0, 0.0, 0.0, 0.0)
LATITUDE_RAD = np.radians(49.015)


def text(numbers: np.ndarray) -> str:
    return " ".join(f"{x:.12f}" for x in np.asarray(numbers).ravel())


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_tum_like(folder: Path, frames: list[Frame], truth: list[np.ndarray]) -> Path:
    for kind in ("rgb", "depth"):
        (folder / kind).mkdir(parents=True)
    for f in frames:
        write_rgb(folder / "rgb" / f"{1e9 + f.timestamp_s:.5f}.png", f.rgb)
        write_depth(folder / "depth" / f"{1e9 + f.timestamp_s:.5f}.png", f, 5000)
    for kind in ("rgb", "depth"):
        times = [f"{1e9 + f.timestamp_s:.5f}" for f in frames]
        write_lines(folder / f"{kind}.txt", ["# timestamp filename", *(f"{t} {kind}/{t}.png" for t in times)])
    rows = [f"{1e9 + f.timestamp_s:.5f} {tum_pose(T)}" for f, T in zip(frames, truth)]
    write_lines(folder / "groundtruth.txt", rows)
    return folder


def tum_pose(T: np.ndarray) -> str:
    return f"{text(T[:3, 3])} {text(quaternion_xyzw(T))}"


def write_bonn(folder: Path, frames: list[Frame]) -> Path:
    """The ground truth is of the markers, in axes turned by T_ROS."""
    markers = [T_ROS @ pose_of(f) @ inverse(T_MARKERS_CAM) @ inverse(T_ROS) for f in frames]
    return write_tum_like(folder, frames, markers)


def write_icl_export(folder: Path, frames: list[Frame]) -> Path:
    """Numbered from 1; the first frame has no pose."""
    for kind in ("rgb", "depth"):
        (folder / kind).mkdir(parents=True)
    for f in frames:
        write_rgb(folder / "rgb" / f"{f.index + 1}.png", f.rgb)
        write_depth(folder / "depth" / f"{f.index + 1}.png", f, 5000)
    numbers = [f.index + 1 for f in frames]
    write_lines(folder / "associations.txt", [f"{n} depth/{n}.png {n} rgb/{n}.png" for n in numbers])
    rows = [f"{f.index + 1} {tum_pose(FLIP_Y @ pose_of(f) @ FLIP_Y)}" for f in frames[1:]]
    write_lines(folder / "livingRoom0.gt.freiburg", rows)
    return folder


def write_icl_own(folder: Path, frames: list[Frame]) -> Path:
    folder.mkdir(parents=True)
    for f in frames:
        assert f.depth_m is not None
        stem = folder / f"scene_00_{f.index:04d}"
        write_rgb(stem.with_suffix(".png"), f.rgb)
        distance = f.depth_m * np.linalg.norm(pixel_rays(f.camera), axis=-1)
        stem.with_suffix(".depth").write_text(" ".join(f"{d:.6f}" for d in distance.ravel()) + " ")
        T = FLIP_Y @ pose_of(f) @ FLIP_Y
        vectors = {"cam_pos": T[:3, 3], "cam_dir": T[:3, 2], "cam_up": T[:3, 1], "cam_right": 1.33 * T[:3, 0]}
        lines = [f"{key:12s} = [{', '.join(f'{x:.12f}' for x in v)}]';" for key, v in vectors.items()]
        write_lines(stem.with_suffix(".txt"), [*lines, "cam_angle    = 90;"])
    return folder


def write_euroc(folder: Path, frames: list[Frame]) -> Path:
    """Grey images; the ground truth at ten times their rate begins with the second."""
    c = frames[0].camera
    cam, truth = folder / "mav0" / "cam0", folder / "mav0" / "state_groundtruth_estimate0"
    (cam / "data").mkdir(parents=True)
    rows = ["#timestamp [ns],filename"]
    for f in frames:
        time = 1403636579763555584 + f.index * 50_000_000
        assert cv2.imwrite(str(cam / "data" / f"{time}.png"), cv2.cvtColor(f.rgb, cv2.COLOR_RGB2GRAY))
        rows.append(f"{time},{time}.png")
    write_lines(cam / "data.csv", rows)
    matrix = [", ".join(f"{x:.12f}" for x in row) for row in TURNED]
    lines = [
        "# General sensor definitions.", "sensor_type: camera", "", "T_BS:", "  cols: 4", "  rows: 4",
        f"  data: [{matrix[0]},", f"         {matrix[1]},", f"        {matrix[2]},", f"         {matrix[3]}]",
        "rate_hz: 20", f"resolution: [{c.width}, {c.height}]", "camera_model: pinhole",
        f"intrinsics: [{c.fx}, {c.fy}, {c.cx}, {c.cy}] #fu, fv, cu, cv", "distortion_model: radial-tangential",
        f"distortion_coefficients: {list(c.coefficients or NO_LENS)}",
    ]  # fmt: skip
    write_lines(cam / "sensor.yaml", lines)
    rows = [
        "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []"
    ]
    for f in frames[1:]:
        T_world_body = pose_of(f) @ inverse(TURNED)
        x, y, z, w = quaternion_xyzw(T_world_body)
        time = 1403636579763555584 + f.index * 50_000_000
        values = [*T_world_body[:3, 3], w, x, y, z, 0.1, 0.2, 0.3]
        rows.append(f"{time}," + ",".join(f"{v:.12f}" for v in values))
    write_lines(truth / "data.csv", rows)
    return folder


def projection(camera: Camera) -> np.ndarray:
    """KITTI's P2: from the frame of camera 0 to pixels of camera 2."""
    return camera.K @ np.column_stack([np.eye(3), SHIFT_M])


def write_kitti_odometry(folder: Path, frames: list[Frame]) -> Path:
    """The folder is sequences/NN; poses of camera 0 lie in ../../poses/NN.txt."""
    c = frames[0].camera
    (folder / "image_2").mkdir(parents=True)
    for f in frames:
        write_rgb(folder / "image_2" / f"{f.index:06d}.png", f.rgb)
    P0 = np.column_stack([c.K, np.zeros(3)])
    keyed = {"P0": P0, "P1": P0, "P2": projection(c), "P3": P0, "Tr": SLIGHTLY[:3]}
    write_lines(folder / "calib.txt", [f"{key}: {text(value)}" for key, value in keyed.items()])
    write_lines(folder / "times.txt", [f"{f.index * 0.1036:.6e}" for f in frames])
    T_cam2_cam0 = np.eye(4)
    T_cam2_cam0[:3, 3] = SHIFT_M
    rows = [text((pose_of(f) @ T_cam2_cam0)[:3]) for f in frames]
    write_lines(folder.parents[1] / "poses" / f"{folder.name}.txt", rows)
    return folder


def write_kitti_raw(folder: Path, frames: list[Frame]) -> Path:
    """The folder is DATE/DATE_drive_NNNN_sync; the first and last images have no depth."""
    c, day = frames[0].camera, folder.parent
    depth = folder / "proj_depth" / "groundtruth" / "image_02"
    for made in (folder / "image_02" / "data", depth):
        made.mkdir(parents=True)
    for f in frames:
        write_rgb(folder / "image_02" / "data" / f"{f.index:010d}.png", f.rgb)
        if 0 < f.index < frames[-1].index:
            write_depth(depth / f"{f.index:010d}.png", f, 256)
    stamps = [f"2011-09-26 13:02:{25 + f.index * 0.1:012.9f}" for f in frames]
    write_lines(folder / "image_02" / "timestamps.txt", stamps)
    rectify = np.eye(4)
    rectify[:3, :3] = SLIGHTLY[:3, :3].T
    keyed = {
        "S_rect_02": np.array([c.width, c.height]),
        "R_rect_00": rectify[:3, :3],
        "P_rect_02": projection(c),
    }
    head = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.950000e-02"]
    write_lines(day / "calib_cam_to_cam.txt", head + [f"{k}: {text(v)}" for k, v in keyed.items()])
    for name, T in (("velo_to_cam", TURNED), ("imu_to_velo", SLIGHTLY)):
        write_lines(day / f"calib_{name}.txt", [head[0], f"R: {text(T[:3, :3])}", f"T: {text(T[:3, 3])}"])
    T_cam2_cam0 = np.eye(4)
    T_cam2_cam0[:3, 3] = SHIFT_M
    T_cam2_imu = T_cam2_cam0 @ rectify @ TURNED @ SLIGHTLY
    scale = 6378137.0 * np.cos(LATITUDE_RAD)
    north_m = scale * np.log(np.tan(np.pi / 4 + LATITUDE_RAD / 2))
    first = (pose_of(frames[0]) @ T_cam2_imu)[:3, 3]
    for f in frames:
        T = pose_of(f) @ T_cam2_imu
        east, north, up = T[:3, 3] - first + [scale * np.radians(8.4), north_m, 112.8]
        latitude = 2 * np.arctan(np.exp(north / scale)) - np.pi / 2
        yaw, pitch, roll = Rotation.from_matrix(T[:3, :3]).as_euler("ZYX")
        row = [np.degrees(latitude), np.degrees(east / scale), up, roll, pitch, yaw, *range(24)]
        write_lines(folder / "oxts" / "data" / f"{f.index:010d}.txt", [" ".join(f"{x:.15g}" for x in row)])
    return folder


def write_kitti_selection(folder: Path, frames: list[Frame]) -> Path:
    """Each frame with its own camera."""
    for kind in ("image", "groundtruth_depth", "intrinsics"):
        (folder / kind).mkdir(parents=True)
    for f in frames:
        stem = "2011_09_26_drive_0002_sync_{}_" + f"{f.index:010d}_image_02"
        write_rgb(folder / "image" / f"{stem.format('image')}.png", f.rgb)
        name = f"{stem.format('groundtruth_depth')}.png"
        write_depth(folder / "groundtruth_depth" / name, f, 256)
        write_lines(folder / "intrinsics" / f"{stem.format('image')}.txt", [text(f.camera.K)])
    return folder


def write_waymo(folder: Path, frames: list[Frame]) -> Path:
    """Two cameras, of which one is read, at a place far from the world's origin."""
    c = frames[0].camera
    for kind in ("images", "intrinsics", "extrinsics", "ego_pose"):
        (folder / kind).mkdir(parents=True)
    forward_left_up = np.eye(4)
    forward_left_up[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]  # OpenCV's x = -left, y = -up, z = forward
    for f in frames:
        for camera in (0, 1):
            write_rgb(folder / "images" / f"{f.index:03d}_{camera}.png", f.rgb)
        T = pose_of(f) @ forward_left_up @ inverse(TURNED)
        T[:3, 3] += [33297.0, 39200.6, -62.6]
        np.savetxt(folder / "ego_pose" / f"{f.index:03d}.txt", T)
    for camera in (0, 1):
        intrinsics = [c.fx, c.fy, c.cx, c.cy, *(c.coefficients or NO_LENS), 0]
        np.savetxt(folder / "intrinsics" / f"{camera}.txt", intrinsics)
        np.savetxt(folder / "extrinsics" / f"{camera}.txt", TURNED)
    return folder


def write_robotcar(folder: Path, frames: list[Frame]) -> Path:
    """Colour images, the SDK's files, and an INS table that begins with the second image."""
    c = frames[0].camera
    (folder / "stereo" / "centre").mkdir(parents=True)
    G_camera_image = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    model = [text(np.array([c.fx, c.fy, c.cx, c.cy])), *(text(row) for row in G_camera_image)]
    write_lines(folder / "models" / "stereo_narrow_left.txt", model)
    T_vehicle_ins, T_camera_vehicle = TURNED, SLIGHTLY
    for name, T in (("ins", T_vehicle_ins), ("stereo", T_camera_vehicle)):
        yaw, pitch, roll = Rotation.from_matrix(T[:3, :3]).as_euler("ZYX")
        write_lines(folder / "extrinsics" / f"{name}.txt", [f"{text(T[:3, 3])} {roll} {pitch} {yaw}"])
    T_image_ins = inverse(G_camera_image) @ T_camera_vehicle @ T_vehicle_ins
    rows = ["timestamp,ins_status,latitude,longitude,altitude,northing,easting,down,utm_zone,roll,pitch,yaw"]
    for f in frames:
        time = 1418381798086398 + f.index * 62_500
        write_rgb(folder / "stereo" / "centre" / f"{time}.png", f.rgb)
        T = pose_of(f) @ T_image_ins
        yaw, pitch, roll = Rotation.from_matrix(T[:3, :3]).as_euler("ZYX")
        north, east, down = T[:3, 3] + [5735000.0, 620000.0, -110.0]
        if f.index > 0:
            place = f"{north:.12f},{east:.12f},{down:.12f}"
            rows.append(f"{time},INS_SOLUTION_GOOD,51.7,-1.2,112.6,{place},30U,{roll},{pitch},{yaw}")
    write_lines(folder / "gps" / "ins.csv", rows)
    return folder
