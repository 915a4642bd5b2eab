"""`remov3r bench network`: parameters, memory and time per stage of the three sizes, streaming one frame at a time.

The weights are random: speed does not depend on them, and nothing has to be downloaded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from remov3r.errors import ConfigError
from remov3r.models.engine import engine_version
from remov3r.models.engine_boxes import EngineName, choose_boxes
from remov3r.models.network import Remov3rNetwork
from remov3r.models.sizes import SIZES, network_config
from remov3r.models.streaming import StreamingNetwork
from remov3r.pipelines.provenance import code_version
from remov3r.pipelines.terminal import say

INPUTS = {"lite": (192, 256), "small": (224, 224), "paper": (224, 224)}  # height, width
STAGES = ("encoder", "depth_prior", "scale_shift", "pointmap_encoder", "fusion", "heads")
WARM_UP = 3


@dataclass(frozen=True)
class BenchOptions:
    """What is measured: `frames` frames after the warm-up, every `keyframe_every`-th of them a keyframe.

    Attributes:
        engine: "torch", or "openvino".
    """

    size: str
    device: str
    precision: str
    compiled: bool
    frames: int
    threads: int
    engine: EngineName = "torch"
    keyframe_every: int = 5


@dataclass(frozen=True)
class NetworkFigures:
    """Medians over frames; `keyframe_ms` includes the dense heads.

    Attributes:
        frame_cpu_ms, keyframe_cpu_ms: of processor time, all threads together; other work disturbs it less.
        stages_ms: of the boxes, run one by one; the states are in "local_state" and "global_state".
        memory_mb: peak of the GPU's, or of the process on a CPU.
    """

    options: BenchOptions
    parameters: int
    trainable: int
    stages_ms: dict[str, float]
    frame_ms: float
    keyframe_ms: float
    frame_cpu_ms: float
    keyframe_cpu_ms: float
    memory_mb: float


def bench_command(arguments: argparse.Namespace) -> int:
    """Measure the sizes, print a table and write it where asked."""
    device = "cuda" if arguments.device == "auto" and torch.cuda.is_available() else arguments.device
    device = "cpu" if device == "auto" else device
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("bench --device cuda: torch sees no GPU; use --device cpu")
    if arguments.frames < 2:
        raise ConfigError(f"bench --frames {arguments.frames}: need 2 or more, a keyframe and another")
    rows = []
    for size in arguments.sizes.split(","):
        if size not in SIZES:
            raise ConfigError(f"bench --sizes: {size!r} is none of {', '.join(SIZES)}")
        precision = arguments.precision or ("bfloat16" if device == "cuda" else "float32")
        options = BenchOptions(size, device, precision, False, arguments.frames, arguments.threads)
        variants = [options] + ([replace(options, compiled=True)] if arguments.compiled else [])
        if device == "cpu" and engine_version() is not None:
            kinds = [arguments.precision] if arguments.precision else ["float32", "bfloat16"]
            variants += [replace(options, engine="openvino", precision=kind) for kind in kinds]
        rows += [_in_own_process(o) for o in variants]
    page = as_markdown(rows)
    say(page)
    if arguments.out:
        Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
        Path(arguments.out).write_text(page)
    return 0


def _in_own_process(options: BenchOptions) -> NetworkFigures:
    """Measure where no other size has been: peaks of memory never come down."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, options).result()


def measure(options: BenchOptions) -> NetworkFigures:
    """Stream random frames through a network of random weights."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    config = network_config(options.size)
    never = config.keyframes.model_copy(update={"threshold": 3.0})
    network = Remov3rNetwork(config.model_copy(update={"keyframes": never})).eval().to(device)
    dtype = getattr(torch, options.precision)
    stages = {}
    if options.engine == "torch" and not options.compiled:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            stages = _stage_times(network, options, device)
    times = _stream_times(network, options, device)
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            2**20 if sys.platform == "darwin" else 2**10
        )
    parameters = list(network.parameters())
    return NetworkFigures(
        options,
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        stages,
        *times,
        memory,
    )


def _inputs(size: str, count: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    h, w = INPUTS[size]
    K = torch.tensor([[0.9 * w, 0, w / 2 - 0.5], [0, 0.9 * w, h / 2 - 0.5], [0, 0, 1]], device=device)
    for _ in range(count):
        yield torch.rand(3, h, w, device=device), K


def _stream_times(
    network: Remov3rNetwork, options: BenchOptions, device: torch.device
) -> tuple[float, float, float, float]:
    """Median milliseconds of frames and of keyframes, as the front end runs them: on the clock, then of CPU."""
    boxes = choose_boxes(network, options.engine, options.compiled, options.precision == "bfloat16")
    stream = StreamingNetwork(network, boxes)
    times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    total = WARM_UP * options.keyframe_every + options.frames
    for i, (rgb, K) in enumerate(_inputs(options.size, total, device)):
        is_key = i % options.keyframe_every == 0
        start, start_cpu = _now(device), time.process_time()
        stream.push(stream.encode(rgb, K))
        if is_key:
            stream.promote()
        spent = _now(device) - start, time.process_time() - start_cpu
        if i >= WARM_UP * options.keyframe_every:
            times[is_key].append(spent)
    frame, frame_cpu = (1e3 * statistics.median(column) for column in zip(*times[False], strict=True))
    keyframe, keyframe_cpu = (1e3 * statistics.median(column) for column in zip(*times[True], strict=True))
    return frame, keyframe, frame_cpu, keyframe_cpu


def _stage_times(network: Remov3rNetwork, options: BenchOptions, device: torch.device) -> dict[str, float]:
    """Median milliseconds of each box, run eagerly with a barrier after each."""
    spent: dict[str, list[float]] = {name: [] for name in (*STAGES, "local_state", "global_state")}
    with torch.inference_mode(), _timed(network, spent, device):
        for rgb, K in _inputs(options.size, WARM_UP + options.frames, device):
            features = network.encode(rgb[None], K[None])
            network.dense(features)
            embedding = features.pose_embedding_BD[:, None]
            tokens = network.tokens(features)
            local = network.local_state.open(embedding, tokens)
            start = _now(device)
            network.local_state.step(embedding, tokens, local)
            spent["local_state"].append(_now(device) - start)
            memory = network.global_state.open(embedding)
            start = _now(device)
            network.global_state.step(embedding, memory)
            spent["global_state"].append(_now(device) - start)
    return {name: 1e3 * statistics.median(values[WARM_UP:]) for name, values in spent.items() if values}


@contextmanager
def _timed(network: Remov3rNetwork, spent: dict[str, list[float]], device: torch.device) -> Iterator[None]:
    """Time the boxes that run through `forward`."""
    started: dict[str, float] = {}
    hooks = []

    def before(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            started[name] = _now(device)

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            spent[name].append(_now(device) - started[name])

        return hook

    for name in STAGES:
        box = getattr(network, name)
        if box is not None:
            hooks += [box.register_forward_pre_hook(before(name)), box.register_forward_hook(after(name))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def as_markdown(rows: list[NetworkFigures]) -> str:
    """Write the figures as tables."""
    first = rows[0].options
    device = torch.cuda.get_device_name() if first.device == "cuda" else f"CPU, {first.threads} thread(s)"
    out = [
        f"Network, batch 1 streaming, {device}, {first.frames} frames, "
        f"torch {torch.__version__}, {_engine_line()}, ReMov3r {code_version()}",
        "",
        "| size | input | parameters M | trained M | memory MB | frame ms | keyframe ms | frame CPU ms | "
        "keyframe CPU ms | engine |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        h, w = INPUTS[r.options.size]
        out.append(
            f"| {r.options.size} | {w}x{h} | {r.parameters / 1e6:.1f} | {r.trainable / 1e6:.1f} | {r.memory_mb:.0f} | "
            f"{r.frame_ms:.1f} | {r.keyframe_ms:.1f} | {r.frame_cpu_ms:.1f} | {r.keyframe_cpu_ms:.1f} | "
            f"{_engine_name(r.options)} |"
        )
    stages = [
        name for name in (*STAGES, "local_state", "global_state") if any(name in r.stages_ms for r in rows)
    ]
    out += ["", f"| ms per stage (eager) | {' | '.join(stages)} |", "|---" * (len(stages) + 1) + "|"]
    for r in rows:
        if r.stages_ms:
            values = " | ".join(f"{r.stages_ms[s]:.1f}" if s in r.stages_ms else "–" for s in stages)
            out.append(f"| {r.options.size} | {values} |")
    return "\n".join(out) + "\n"


def _engine_name(options: BenchOptions) -> str:
    engine = "torch.compile" if options.compiled else "OpenVINO" if options.engine == "openvino" else "torch"
    return f"{engine}, {options.precision}"


def _engine_line() -> str:
    version = engine_version()
    return f"OpenVINO {version}" if version else "no OpenVINO"
