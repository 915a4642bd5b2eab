"""A sheet of pictures of runs: frame, depth as predicted and as aligned, sigma, confidence, and the mesh from there.

python -m remov3r.pipelines.depth_sheet RUN RUN:FRAME … --out sheet.jpg
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from remov3r.backends.mesh_render import render_mesh
from remov3r.errors import DataError, Remov3rError
from remov3r.pipelines.load import load_reconstruction
from remov3r.pipelines.report_images import colored, limits
from remov3r.pipelines.terminal import say
from remov3r.types import Image, Keyframe, Mesh

TILE = (256, 192)
HEADINGS = (
    "frame",
    "depth as predicted",
    "aligned to landmarks",
    "sigma / depth",
    "confidence",
    "mesh from there",
)
MOST_SIGMA = 0.5  # of the depth: the end of that column's colours


def row(keyframe: Keyframe, mesh: Mesh | None) -> list[np.ndarray]:
    """Return the pictures of one keyframe; both depths have the same colours, far is bright."""
    dense, aligned = keyframe.dense, keyframe.aligned
    low, high = limits([dense.depth_m, aligned.depth_m])
    depths = [colored(d.depth_m, low, high, cv2.COLORMAP_INFERNO) for d in (dense, aligned)]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(dense.depth_m > 0, dense.sigma_m / dense.depth_m, np.inf)
    sigma = colored(share, 0, MOST_SIGMA, cv2.COLORMAP_VIRIDIS)
    confidence = colored(dense.depth_confidence, *limits([dense.depth_confidence]), cv2.COLORMAP_VIRIDIS)
    camera = dense.camera.resized(*TILE)
    seen = np.full((TILE[1], TILE[0], 3), 128, np.uint8)
    if mesh is not None:
        seen = render_mesh(mesh, camera, keyframe.T_world_cam, oversample=2)[0]
    return [keyframe.rgb, *depths, sigma, confidence, seen]


def sheet(rows: list[tuple[str, list[np.ndarray]]]) -> Image:
    """Lay rows of pictures below each other, with headings and the rows' names."""
    lines = [_texts(list(HEADINGS))]
    for name, pictures in rows:
        tiles = [cv2.resize(p, TILE, interpolation=cv2.INTER_AREA) for p in pictures]
        lines += [np.concatenate(tiles, 1), _texts([name])]
    return np.concatenate(lines).astype(np.uint8)


def keyframe_of(keyframes: tuple[Keyframe, ...], frame: int | None) -> Keyframe:
    """Return the keyframe nearest to a frame; the middle one if no frame is named.

    Raises:
        DataError: there are none.
    """
    if not keyframes:
        raise DataError("the run has no keyframes")
    if frame is None:
        return keyframes[len(keyframes) // 2]
    return min(keyframes, key=lambda k: abs(k.frame_index - frame))


def _texts(texts: list[str]) -> Image:
    strip = np.full((22, TILE[0] * len(HEADINGS), 3), 255, np.uint8)
    for i, text in enumerate(texts):
        place = (4 + i * TILE[0], 16)
        cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (30, 30, 30), 1, cv2.LINE_AA)
    return strip


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN[:FRAME]")
    parser.add_argument("--out", type=Path, required=True, metavar="JPG")
    args = parser.parse_args(argv)
    try:
        rows = []
        for run in args.runs:
            folder, _, frame = run.partition(":")
            result = load_reconstruction(Path(folder))
            keyframe = keyframe_of(result.keyframes, int(frame) if frame else None)
            name = f"{Path(folder).name.split('_')[0]}, frame {keyframe.frame_index}"
            rows.append((name, row(keyframe, result.mesh)))
        picture = np.ascontiguousarray(sheet(rows)[..., ::-1])
        if not cv2.imwrite(str(args.out), picture, [cv2.IMWRITE_JPEG_QUALITY, 88]):
            raise DataError(f"{args.out}: cannot be written")
    except Remov3rError as error:
        sys.exit(f"depth_sheet: {error}")
    say(f"written {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
