"""How many threads a run takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import scipy.linalg
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from remov3r.pipelines.build import use_threads


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = torch.get_num_threads()
    with threadpool_limits():
        yield
    torch.set_num_threads(before)


def test_linear_algebra_keeps_to_one_thread() -> None:
    threadpool_limits(2, "blas")
    assert scipy.linalg.cholesky([[4.0]])[0, 0] == 2  # loads its own library
    use_threads(2)
    assert torch.get_num_threads() == 2
    libraries = [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]
    assert libraries
    assert set(libraries) == {1}
