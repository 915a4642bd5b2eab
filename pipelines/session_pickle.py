"""Pickles of a run's state that can be read without trusting them: only known classes come to life.

A pickle names the functions that are to be called when it is read. Here nothing but this package's own classes
of state, numpy arrays and a few containers may be named, so a file from elsewhere cannot run code. Tensors go
through numpy; keyframes lie in files of their own and are referred to by their numbers.
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from remov3r.backends.keyframe_store import KeyframeStore
from remov3r.errors import DataError

PutKeyframes = Callable[[KeyframeStore], None]
GetKeyframes = Callable[[tuple[int, ...]], KeyframeStore]

_PACKAGES = ("remov3r.backends.", "remov3r.frontends.", "remov3r.models.")
_MODULES = ("remov3r.types", "remov3r.camera", "remov3r.pipelines.recording")
_KNOWN: dict[str, Any] = {
    f"{thing.__module__}.{thing.__qualname__}": thing
    for thing in (set, frozenset, slice, range, complex, bytearray, OrderedDict, deque, np.ndarray, np.dtype)
} | {
    f"numpy._core.{name}": getattr(importlib.import_module(f"numpy._core.{module}"), function)
    for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
    for module, function in [name.split(".")]
}


def to_bytes(state: object, put_keyframes: PutKeyframes) -> bytes:
    """Pickle a state.

    Args:
        put_keyframes: called with each store of keyframes met; the pickle only refers to these.
    Raises:
        DataError: it holds something that could not be read back, such as a plug-in's own class.
    """
    stream = io.BytesIO()
    try:
        _Pickler(stream, put_keyframes).dump(state)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"the state of this run cannot be saved: {error}") from error
    return stream.getvalue()


def from_bytes(content: bytes, get_keyframes: GetKeyframes, where: str) -> Any:
    """Read what `to_bytes` wrote.

    Args:
        where: the file, for messages.
    Raises:
        DataError: it is damaged, of another version, or names something that is not allowed.
    """
    try:
        return _Unpickler(io.BytesIO(content), get_keyframes).load()
    except Exception as error:  # damaged pickles raise whatever they like
        raise DataError(f"{where}: cannot be read: {error}") from error


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, put_keyframes: PutKeyframes) -> None:
        super().__init__(stream, protocol=5)
        self._put_keyframes = put_keyframes

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Tensor):
            return _tensor, _parts(obj)
        if isinstance(obj, KeyframeStore):
            self._put_keyframes(obj)
            return _stored_keyframes, (obj.indices,)
        if callable(obj) and hasattr(obj, "__qualname__"):
            _found(obj.__module__, obj.__qualname__)  # what is refused later is refused now
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, get_keyframes: GetKeyframes) -> None:
        super().__init__(stream)
        self._get_keyframes = get_keyframes

    def find_class(self, module: str, name: str) -> Any:
        found = _found(module, name)
        return self._get_keyframes if found is _stored_keyframes else found


def _found(module: str, name: str) -> Any:
    """Return what a pickle names, or refuse it."""
    if f"{module}.{name}" in _KNOWN:
        return _KNOWN[f"{module}.{name}"]
    if module == __name__ and name in ("_tensor", "_stored_keyframes"):
        return globals()[name]
    if (module in _MODULES or module.startswith(_PACKAGES)) and name.isidentifier():
        found = getattr(importlib.import_module(module), name, None)
        if isinstance(found, type) and found.__module__ == module and not issubclass(found, nn.Module):
            return found
    raise pickle.PicklingError(f"{module}.{name} is not part of a run's state")


def _stored_keyframes(indices: tuple[int, ...]) -> KeyframeStore:
    raise AssertionError("stands for the reader's own function")


def _parts(tensor: torch.Tensor) -> tuple[np.ndarray, str, tuple[int, ...], list[int], str]:
    """Values as bytes (numpy has no bfloat16), type, shape, axes from the outermost in memory on, device."""
    values = tensor.detach().cpu().contiguous()
    raw = values.reshape(-1).view(torch.uint8).numpy()
    strides: tuple[int, ...] = tensor.stride()
    axes = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    return raw, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), axes, tensor.device.type


def _tensor(
    raw: np.ndarray, dtype: str, shape: tuple[int, ...], axes: list[int], device: str
) -> torch.Tensor:
    """Make the tensor again, laid out in memory as it was: kernels for other layouts round differently."""
    values = torch.from_numpy(raw).view(getattr(torch, dtype)).reshape(shape)
    laid_out = values.permute(axes).clone(memory_format=torch.contiguous_format).to(device)
    return laid_out.permute([axes.index(axis) for axis in range(len(axes))])
