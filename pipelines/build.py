"""From names in the configuration to front ends and backends."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from threadpoolctl import threadpool_limits

from remov3r.backends.registry import create_backend
from remov3r.frontends.network import NetworkFrontEnd
from remov3r.frontends.recorded import RecordedFrontEnd, RecordingFrontEnd, open_recording
from remov3r.frontends.sensor import SensorFrontEnd
from remov3r.pipelines.config import RECORDED, PipelineConfig
from remov3r.protocols import Backend, FrontEnd

FRONT_ENDS: dict[str, Callable[[PipelineConfig], FrontEnd]] = {
    "network": lambda config: NetworkFrontEnd(config.network),
    "sensor": lambda config: SensorFrontEnd(config.sensor),
    RECORDED: lambda config: RecordedFrontEnd(
        open_recording(config.front_end.removeprefix(RECORDED)), config.recorded
    ),
}


def build_front_end(config: PipelineConfig) -> FrontEnd:
    """Make the front end that a configuration names, with a recorder around it where one is asked for.

    Raises:
        ConfigError: its weights are not there or do not fit.
        DataError: its recording cannot be read, or the folder for a new one is not empty.
    """
    kind = RECORDED if config.front_end.startswith(RECORDED) else config.front_end
    front_end = FRONT_ENDS[kind](config)
    return RecordingFrontEnd(front_end, config.record) if config.record else front_end


def build_backend(config: PipelineConfig) -> Backend:
    """Make the backend that a configuration names.

    Raises:
        ConfigError: there is none of that name.
        MissingDependencyError: its library is not installed.
    """
    settings = {"bundle": config.bundle, "pose_graph": config.pose_graph}
    return create_backend(config.backend, settings.get(config.backend))


def use_threads(threads: int) -> None:
    """Set the number of threads of torch, process-wide; 0 for half the cores.

    The linear algebra of numpy and scipy keeps to one: its matrices are small here, and threads that wait for more
    of it take the processor from the network.
    """
    threadpool_limits(1, "blas")
    torch.set_num_threads(threads or default_threads())


def default_threads() -> int:
    """Return half the cores this process may use, at least one and at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores // 2, 1), 8)
