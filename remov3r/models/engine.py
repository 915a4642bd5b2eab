"""OpenVINO runs modules on CPUs in half the time or less; the only place that imports it.

A module is recorded for one size of its inputs, converted and compiled at its first call, which takes seconds;
what comes out is kept in the user's cache folder, from where it is back in tenths of a second.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from remov3r.errors import MissingDependencyError, Remov3rError
from remov3r.models.engine_cache import read_cached, write_cached
from remov3r.models.recorded import recorded_call

logger = logging.getLogger(__name__)

Call = Callable[..., tuple[Tensor, ...]]


def engine_version() -> str | None:
    """Return the version of OpenVINO; None where it is not installed or does not load."""
    try:
        return str(_openvino().get_version()).split("-")[0]
    except ImportError:
        return None


def _openvino() -> Any:
    return importlib.import_module("openvino")


@functools.cache
def _core() -> Any:
    """Return the process's core, which is never given up.

    The CPU plug-in of a core replaces the stack that signals are handled on. Where several come and go, the stack
    that is put back may be one that was freed: the next signal, Ctrl-C for example, then ends the process
    (OpenVINO 2026.4.1).
    """
    return _openvino().Core()


class Engine:
    """Compiles modules for this CPU; any thread may call them."""

    def __init__(self, fingerprint: str) -> None:
        """Start the engine with as many threads as torch has now.

        Args:
            fingerprint: of everything that modules of the same name compute with: weights and code.
        Raises:
            MissingDependencyError: OpenVINO is not installed.
        """
        try:
            self._ov = _openvino()
        except ImportError as error:
            raise MissingDependencyError(
                "OpenVINO is not installed; install it with: pip install 'remov3r[engine]' or set "
                'network.engine = "torch"'
            ) from error
        self._core = _core()
        self.threads = torch.get_num_threads()
        cpu = self._core.get_property("CPU", "FULL_DEVICE_NAME")
        self._key = f"{fingerprint} {self._ov.get_version()} {torch.__version__} {cpu} {self.threads}"
        self._calls: dict[tuple[object, ...], Call] = {}
        self._building = threading.Lock()  # torch records one module at a time

    @property
    def has_bfloat16(self) -> bool:
        """Whether this CPU computes in bfloat16 natively."""
        return "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def run(
        self, name: str, module: nn.Module, inputs: Sequence[Tensor], bfloat16: bool
    ) -> tuple[Tensor, ...]:
        """Call a module; where OpenVINO cannot take it, torch runs it and a warning says so.

        Args:
            name: of the module, unique for the fingerprint.
            inputs: on the CPU, float32, in the module's order.
            bfloat16: let it compute in that precision where the CPU has it.
        """
        sizes = tuple(tuple(x.shape) for x in inputs)
        with self._building:
            if (name, sizes) not in self._calls:
                self._calls[name, sizes] = self._built(name, module, inputs, bfloat16 and self.has_bfloat16)
        return self._calls[name, sizes](*inputs)

    def _built(self, name: str, module: nn.Module, inputs: Sequence[Tensor], bfloat16: bool) -> Call:
        start = time.perf_counter()
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",  # its own choice would be bf16
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # each module would sit on the first core, busy or not
        }
        sizes = [list(x.shape) for x in inputs]
        key = hashlib.sha256(f"{self._key} {name} {sizes} {options}".encode()).hexdigest()
        try:
            cached = read_cached(key)
            compiled = None if cached is None else self._imported(cached, options)
            if compiled is None:
                compiled = self._core.compile_model(self._converted(module, inputs), "CPU", options)
                write_cached(key, compiled.export_model().getvalue())
        except Remov3rError:
            raise
        except Exception as error:  # its own kinds of errors share no base
            logger.warning(
                "OpenVINO cannot run %s: %s; torch runs it", name, str(error).strip().split("\n")[-1]
            )
            return module
        logger.info(
            "network: %s in OpenVINO %s, %s, %d thread(s), ready in %.1f s%s",
            name,
            self._ov.get_version().split("-")[0],
            options["INFERENCE_PRECISION_HINT"],
            self.threads,
            time.perf_counter() - start,
            "" if cached is None else " from the cache",
        )
        return _Request(compiled)

    def _imported(self, content: bytes, options: dict[str, int | str]) -> Any:
        try:
            return self._core.import_model(content, "CPU", options)
        except RuntimeError as error:
            logger.warning("a cached network does not load and is built anew: %s", str(error).split("\n")[0])
            return None

    def _converted(self, module: nn.Module, inputs: Sequence[Tensor]) -> Any:
        """Convert as openvino.convert_model does, which besides is slower and reports its use over the net."""
        frontend = importlib.import_module("openvino.frontend").FrontEndManager().load_by_framework("pytorch")
        decoder = importlib.import_module("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder
        with torch.inference_mode(False), torch.no_grad():
            example = tuple(x.clone() for x in inputs)
            source = decoder(recorded_call(module, *example), example_input=example)
        recorded = frontend.load(source)  # refers to the source, does not own it
        for place, x in zip(recorded.get_inputs(), inputs, strict=True):
            recorded.set_element_type(place, self._ov.Type.f32)
            recorded.set_partial_shape(place, self._ov.PartialShape(list(x.shape)))
        return frontend.convert(recorded)


class _Request:
    """A compiled module; its callers wait for each other."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._busy = threading.Lock()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = [x.contiguous().numpy() for x in inputs]
        with self._busy:
            results = self._request.infer(arrays, share_inputs=True)  # copies of its outputs
        return tuple(torch.from_numpy(x) for x in results.to_tuple())
