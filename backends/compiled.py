"""Inner loops in machine code, by Numba; the only place that imports it.

Over a few hundred points numpy spends most of its time on starting its passes. Code is made once for a machine and
kept in the folder of its file or, where that is read-only, in the user's cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function at its first call, for the types it is called with."""
    plain = inspect.unwrap(function)  # of what checks types at run time
    try:
        return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(plain))
    except RuntimeError:  # no folder to keep it in
        return cast(F, numba.njit(nogil=True, error_model="numpy")(plain))
