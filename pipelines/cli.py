"""The command line. Arguments first; what is heavy to import comes only once they are known to be right."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from remov3r import __version__
from remov3r.errors import Remov3rError

INTERRUPTED = 130
_DEPTH_SETS = (
    *("7scenes", "tum", "posed", "scannet", "replica", "vkitti2"),
    *("bonn", "icl-nuim", "kitti", "kitti-selection"),
)
_POSE_SETS = ("kitti-odometry", "euroc", "waymo", "robotcar")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; None for those of the process.
    Returns:
        exit status: 0 done, 1 an error that the user can mend, 130 interrupted. Usage errors exit with 2, and
        unknown errors surface with their traceback.
    """
    arguments, rest = _parser().parse_known_args(argv)
    if rest and arguments.command != "train":
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    level = logging.INFO if arguments.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s", force=True)
    try:
        if arguments.command == "train":
            return int(importlib.import_module("remov3r.training.__main__").main(rest) or 0)
        command = importlib.import_module(f"remov3r.pipelines.{arguments.module}")
        return int(getattr(command, f"{arguments.command}_command")(arguments))
    except Remov3rError as error:
        sys.stderr.write(f"remov3r: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("remov3r: interrupted\n")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="remov3r", description="RGB video in; metric camera trajectory, depth and mesh out."
    )
    parser.add_argument("--version", action="version", version=f"remov3r {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is being done")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="reconstruct a video, an image folder or a data set"))
    _add_eval(commands.add_parser("eval", help="score the output of a run against ground truth"))
    _add_relocalise(
        commands.add_parser("relocalise", help="pose a second video in the map of an earlier run")
    )
    _add_compare(commands.add_parser("compare", help="compare trajectories of any systems with a reference"))
    _add_benchmark(
        commands.add_parser("benchmark", help="measure front ends and backends by a named protocol")
    )
    _add_tables(commands.add_parser("tables", help="the paper's tables 2 and 3, with what was measured here"))
    demo = commands.add_parser("demo", help="render a synthetic room video, reconstruct it, write a report")
    demo.add_argument("--out", default="out/demo", metavar="DIR", help="output folder (%(default)s)")
    demo.add_argument("--seconds", type=float, default=10.0, help="length of the video (%(default)s)")
    _add_config(demo)
    demo.set_defaults(module="demo")
    doctor = commands.add_parser("doctor", help="check this installation and say what to do about problems")
    doctor.add_argument(
        "--weights-dir", metavar="DIR", help="where to look for published weights (hub cache)"
    )
    doctor.set_defaults(module="doctor")
    _add_bench(commands.add_parser("bench", help="measure parts of the program on this machine"))
    config = commands.add_parser("config", help="print the resolved configuration as TOML")
    _add_config(config)
    config.set_defaults(module="run")
    _add_recorded(commands.add_parser("recorded", help="check what another front end wrote"))
    _add_data(commands.add_parser("data", help="check data sets and pack them for training"))
    # Its options are the training program's own: everything after the word is handed on.
    commands.add_parser("train", help="train the network (remov3r train --help)", add_help=False)
    return parser


def _add_run(run: argparse.ArgumentParser) -> None:
    _add_input(run)
    run.add_argument("--backend", metavar="none|pose_graph|bundle", help="none: the network's own trajectory")
    run.add_argument(
        "--front-end",
        metavar="network|sensor|recorded:DIR",
        help="sensor: the data set's depth; recorded: what another front end wrote (docs/recorded.md)",
    )
    run.add_argument(
        "--record", metavar="DIR", help="write what the front end says, to be used as recorded:DIR"
    )
    run.add_argument(
        "--resume", action="store_true", help="go on with the run that was killed (same options)"
    )
    run.add_argument("--no-mesh", action="store_true", help="trajectory and keyframes only")
    run.add_argument("--out", metavar="DIR", help="output folder (out/NAME)")
    _add_config(run)
    run.set_defaults(module="run")


def _add_relocalise(relocalise: argparse.ArgumentParser) -> None:
    relocalise.add_argument("session", metavar="SESSION", help="output folder of an earlier run")
    _add_input(relocalise)
    relocalise.add_argument("--out", required=True, metavar="DIR", help="output folder")
    relocalise.set_defaults(module="relocalise")


def _add_eval(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument("out", metavar="OUT", help="output folder of a finished run")
    evaluate.add_argument(
        "--reference", required=True, metavar="PATH", help="trajectory file, or data set folder"
    )
    evaluate.add_argument("--mesh", metavar="FILE", help="ground-truth mesh, in place of fused depth")
    evaluate.set_defaults(module="run")


def _add_compare(compare: argparse.ArgumentParser) -> None:
    compare.add_argument(
        "trajectories",
        nargs="+",
        metavar="FILE",
        help="TUM, KITTI, EuRoC csv or npz; or the output folder of a run",
    )
    compare.add_argument(
        "--reference", required=True, metavar="PATH", help="trajectory file, or data set folder"
    )
    compare.add_argument(
        "--align",
        default="se3",
        choices=("se3", "sim3"),
        help="of plots and per-frame errors (%(default)s); the table holds both",
    )
    compare.add_argument(
        "--tolerance", type=float, default=0.01, metavar="S", help="between timestamps (%(default)s s)"
    )
    compare.add_argument("--out", default="out/compare", metavar="DIR", help="output folder (%(default)s)")
    compare.set_defaults(module="compare")


def _add_benchmark(benchmark: argparse.ArgumentParser) -> None:
    benchmark.add_argument("protocol", metavar="PROTOCOL", help="such as shared-small, or a TOML file")
    benchmark.add_argument("--data", required=True, metavar="DIR", help="folder of the sequences")
    benchmark.add_argument(
        "--method",
        action="append",
        required=True,
        metavar="FRONT_END+BACKEND",
        help="such as network+bundle; may be repeated",
    )
    benchmark.add_argument("--config", default="lite", metavar="NAME|FILE", help="(%(default)s)")
    benchmark.add_argument(
        "--out", default="out/benchmark", metavar="DIR", help="folder of the tables (%(default)s)"
    )
    benchmark.add_argument(
        "--runs", default="out/benchmark/runs", metavar="DIR", help="keeps each run's output (%(default)s)"
    )
    benchmark.set_defaults(module="benchmark")


def _add_tables(tables: argparse.ArgumentParser) -> None:
    tables.add_argument("results", nargs="*", metavar="RESULT.json", help="pages of `remov3r benchmark`")
    tables.add_argument(
        "--out", default="docs/benchmarks/paper_tables.md", metavar="FILE", help="Markdown (%(default)s)"
    )
    tables.set_defaults(module="paper_tables")


def _add_bench(bench: argparse.ArgumentParser) -> None:
    parts = bench.add_subparsers(dest="what", required=True, metavar="WHAT")
    network = parts.add_parser("network", help="parameters, memory and time of each size")
    network.add_argument("--sizes", default="lite,small,paper", metavar="NAME,...", help="(%(default)s)")
    network.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    network.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        help="bfloat16 on GPUs, float32 on CPUs, where OpenVINO is measured in both",
    )
    network.add_argument(
        "--frames", type=int, default=20, metavar="N", help="after the warm-up (%(default)s)"
    )
    network.add_argument("--threads", type=int, default=1, help="of torch on a CPU (%(default)s)")
    network.add_argument("--compiled", action="store_true", help="measure torch.compile as well")
    network.add_argument("--out", metavar="FILE", help="also write the tables as Markdown")
    network.set_defaults(module="bench_network")
    long = parts.add_parser("long", help="memory and time of the bundle backend over thousands of frames")
    long.add_argument("--frames", type=int, default=10_000, metavar="N", help="(%(default)s)")
    long.add_argument("--distinct", type=int, default=600, metavar="N", help="rendered frames (%(default)s)")
    long.add_argument("--every", type=int, default=500, metavar="N", help="frames per line (%(default)s)")
    long.add_argument("--images", metavar="DIR", help="keep the rendered frames here, or take them from here")
    long.add_argument("--out", metavar="FILE", help="also write the page as Markdown, with a plot beside it")
    long.set_defaults(module="bench_long")
    points = parts.add_parser("map", help="time of the map errors for so many points on either side")
    points.add_argument("--points", type=int, default=10_000_000, metavar="N", help="(%(default)s)")
    points.add_argument("--out", metavar="FILE", help="also write the page as Markdown")
    points.set_defaults(module="bench_map")
    backends = parts.add_parser("backends", help="none, pose_graph and bundle against the front end alone")
    backends.add_argument(
        "--sequence", action="append", metavar="NAME", help="synthetic ones; all if not given"
    )
    backends.add_argument(
        "--data", action="append", default=[], metavar="DIR", help="a real sequence; alone without --sequence"
    )
    backends.add_argument(
        "--front-end", action="append", metavar="NAME", help="of the table; all if not given"
    )
    backends.add_argument(
        "--backend", action="append", choices=("none", "pose_graph", "bundle"), help="all if not given"
    )
    backends.add_argument("--frames", type=int, default=240, metavar="N", help="rendered (%(default)s)")
    backends.add_argument("--config", default="lite", metavar="NAME|FILE", help="(%(default)s)")
    backends.add_argument(
        "--images", metavar="DIR", help="keep the rendered frames here, or take them from here"
    )
    backends.add_argument(
        "--out",
        default="out/bench/backends.md",
        metavar="FILE",
        help="page, with a JSON beside it (%(default)s)",
    )
    backends.set_defaults(module="bench_backends")


def _add_data(data: argparse.ArgumentParser) -> None:
    actions = data.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check", help="look for the traps of data sets; exit status 1 if there are any"
    )
    check.add_argument("dir", metavar="DIR", help="a sequence, or a folder with some below it")
    pack = actions.add_parser("pack", help="write WebDataset shards: one tar file per sequence")
    pack.add_argument("source", nargs="+", metavar="SOURCE", help="sequence, or folder with some below it")
    pack.add_argument("--out", required=True, metavar="DIR", help="folder of the tar files")
    pack.add_argument("--size", default="320x240", metavar="WxH", help="of the images (%(default)s)")
    pack.add_argument("--image", default="jpg", choices=("jpg", "png"), help="png is lossless (%(default)s)")
    pack.add_argument(
        "--max-depth", type=float, default=20.0, metavar="M", help="farther counts as missing (%(default)s)"
    )
    pack.add_argument("--workers", type=int, default=1, metavar="N", help="sequences at a time (%(default)s)")
    for action in (check, pack):
        action.add_argument("--dataset", default="auto", choices=("auto", *_DEPTH_SETS, *_POSE_SETS))
        action.add_argument("--camera", metavar="FX,FY,CX,CY|FILE", help="in place of the data set's own")
    data.set_defaults(module="data")


def _add_recorded(recorded: argparse.ArgumentParser) -> None:
    actions = recorded.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check", help="look for what is wrong with it; exit status 1 if there are errors"
    )
    check.add_argument("recording", metavar="DIR|LAYOUT:DIR", help="as after recorded: in run --front-end")
    recorded.set_defaults(module="recorded")


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="INPUT", help="video file, image folder or data set folder")
    parser.add_argument(
        "--dataset",
        default="auto",
        choices=("auto", "video", "folder", *_DEPTH_SETS, *_POSE_SETS),
        help="what INPUT is (%(default)s: tell by what lies there)",
    )
    parser.add_argument(
        "--camera",
        metavar="FX,FY,CX,CY|FILE",
        help="intrinsics in pixels, or a TOML calibration with distortion",
    )
    parser.add_argument(
        "--fps", type=float, default=30.0, help="where the input has no timestamps (%(default)s)"
    )
    parser.add_argument("--start", type=int, default=0, metavar="N", help="first frame (%(default)s)")
    parser.add_argument(
        "--stride", type=int, default=1, metavar="N", help="take every N-th frame (%(default)s)"
    )
    parser.add_argument("--max-frames", type=int, metavar="N", help="stop after N frames")


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", default="lite", metavar="NAME|FILE", help="configuration (%(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value, such as fusion.voxel_m=0.01; may be repeated",
    )


if __name__ == "__main__":
    sys.exit(main())
