"""The report's keyframes: their images, depth, confidence and deviation, and whether the deviation is true."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from remov3r.backends.mesh_render import overview_camera, render_mesh
from remov3r.data.stream import StreamedSource
from remov3r.pipelines.report_images import colored, embedded, limits, ramp_css
from remov3r.pipelines.report_plots import Series, plot
from remov3r.pipelines.report_reliability import keyframe_reliability
from remov3r.types import Keyframe, Mesh

DEPTH_COLORS, SIGMA_COLORS, CONFIDENCE_COLORS = cv2.COLORMAP_TURBO, cv2.COLORMAP_VIRIDIS, cv2.COLORMAP_BONE
SHOWN_KEYFRAMES = 10


def keyframes_html(keyframes: Sequence[Keyframe]) -> str:
    """Show some keyframes as columns: image, depth, confidence, standard deviation."""
    if not keyframes:
        return ""
    even = np.linspace(0, len(keyframes) - 1, SHOWN_KEYFRAMES).round().astype(int)
    chosen = [keyframes[i] for i in np.unique(even)]
    maps = {
        "depth": ([k.aligned.depth_m for k in chosen], DEPTH_COLORS, " m"),
        "confidence": ([k.aligned.depth_confidence for k in chosen], CONFIDENCE_COLORS, ""),
        "deviation": ([k.aligned.sigma_m for k in chosen], SIGMA_COLORS, " m"),
    }
    ranges = {name: limits(shown) for name, (shown, _, _) in maps.items()}
    figures = []
    for n, k in enumerate(chosen):
        pictures = {"image": k.rgb}
        pictures |= {name: colored(m[n], *ranges[name], colors) for name, (m, colors, _) in maps.items()}
        images = "".join(f"<img alt='{name}' src='{embedded(rgb)}'>" for name, rgb in pictures.items())
        caption = f"frame {k.frame_index}, {k.timestamp_s:.2f} s"
        figures.append(f"<figure>{images}<figcaption>{caption}</figcaption></figure>")
    legend = "".join(_ramp(name, *ranges[name], colors, unit) for name, (_, colors, unit) in maps.items())
    return (
        f"<h2>Keyframes</h2><div class='card'><p class='muted'>{len(chosen)} of {len(keyframes)}: image, "
        "depth as it is fused, its confidence and its standard deviation (grey: no depth).</p>"
        f"<div class='legend'>{legend}</div><div class='strip'>{''.join(figures)}</div></div>"
    )


def reliability_html(keyframes: Sequence[Keyframe], truth: StreamedSource | None) -> str:
    """Plot the errors of depth against the deviations given for them; empty without true depth.

    Raises:
        DataError: the source of the true depth cannot be read.
    """
    if truth is None:
        return ""
    predicted, aligned = keyframe_reliability(keyframes, truth)
    named = {"as predicted": ("online", predicted), "aligned to landmarks": ("estimate", aligned)}
    curves = {name: (style, r) for name, (style, r) in named.items() if r is not None}
    if not curves:
        return ""
    most = max(float(r.sigma_m.max()) for _, r in curves.values())
    true = np.array([0.0, most])
    lines = [Series("true deviations", "reference", true, true)]
    lines += [Series(name, style, r.sigma_m, r.error_m) for name, (style, r) in curves.items()]
    svg = plot(lines, "deviation that was given [m]", "error met [m]", from_zero=True)
    shares = "; ".join(
        f"{name}, {r.within_1:.0%} are within one deviation and {r.within_2:.0%} within two"
        for name, (_, r) in curves.items()
    )
    return (
        f"<h2>Are the deviations true?</h2><figure class='card half'>{svg}<figcaption>Pixels with true depth, "
        "sorted by the standard deviation given for them; drawn is the error that 68 % of them stay below. Above "
        "the dashed line errors are larger than announced. Of all pixels, "
        f"{shares} (68 % and 95 % where deviations are true and errors Gaussian).</figcaption></figure>"
    )


def mesh_html(mesh: Mesh | None, keyframes: Sequence[Keyframe]) -> str:
    """Show the mesh from outside and from one of the frames, beside that frame."""
    if mesh is None or not keyframes:
        return ""
    overview, _ = render_mesh(mesh, *overview_camera(mesh), shading=0.5, cull_back_faces=True, oversample=2)
    middle = keyframes[len(keyframes) // 2]
    camera = middle.dense.camera.resized(480, round(480 * middle.rgb.shape[0] / middle.rgb.shape[1]))
    inside, _ = render_mesh(mesh, camera, middle.T_world_cam, oversample=2)
    pictures = (
        (overview, "The whole mesh, from above and behind the first camera"),
        (inside, f"The mesh from where frame {middle.frame_index} was taken"),
        (middle.rgb, f"Frame {middle.frame_index} itself"),
    )
    wide, *rest = (
        f"<figure class='card'><img alt='' src='{embedded(rgb, 960)}'>"
        f"<figcaption>{text}</figcaption></figure>"
        for rgb, text in pictures
    )
    beside = f"<div class='grid'>{''.join(rest)}</div>"
    return f"<h2>Mesh</h2><div class='overview'>{wide}</div>{beside}"


def _ramp(name: str, low: float, high: float, color_map: int, unit: str) -> str:
    bar = f"<span class='ramp' style='background:{ramp_css(color_map)}'></span>"
    return f"<span>{name} {low:.2f}{unit}{bar}{high:.2f}{unit}</span>"
