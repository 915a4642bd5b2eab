"""The stage timer against a clock that the test turns by hand."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from remov3r.pipelines.timing import StageTimer, peak_rss_mb


class Clock:
    """Stands in for time.perf_counter."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)


def test_stages_have_median_p99_and_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, timer = Clock(monkeypatch), StageTimer()
    for milliseconds in (1, 2, 300):
        with timer.stage("work"):
            clock.now += milliseconds / 1e3
    work = timer.timings().stages["work"]
    assert work.calls == 3
    assert work.median_ms == pytest.approx(2)
    assert work.p99_ms == pytest.approx(2 + 0.98 * 298)  # linear between the two longest


def test_speed_leaves_out_the_first_frame_and_counts_reading_and_finish(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, timer = Clock(monkeypatch), StageTimer()

    def slow_source() -> Iterator[int]:
        for frame in range(5):
            clock.now += 0.1
            yield frame

    for frame in timer.each("read", slow_source()):
        clock.now += 10 if frame == 0 else 0.3  # the first frame loads weights
        timer.frame_done()
    clock.now += 0.4  # closing optimisation
    result = timer.timings()
    assert result.frames_per_s == pytest.approx(4 / (4 * 0.4 + 0.4))
    assert result.stages["read"].median_ms == pytest.approx(100)
    assert result.stages["read"].calls == 5


def test_one_frame_has_no_speed() -> None:
    timer = StageTimer()
    assert timer.frames_per_s == 0
    timer.frame_done()
    assert timer.timings().frames_per_s == 0


def test_a_stage_that_raises_is_not_counted() -> None:
    timer = StageTimer()
    with pytest.raises(ValueError, match="no"), timer.stage("bad"):
        raise ValueError("no")
    assert timer.timings().stages == {}


def test_peak_memory_is_of_this_process() -> None:
    block = bytearray(64 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert 64 < peak_rss_mb() < 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_the_process_that_starts_it_does_not_count() -> None:
    held = np.ones(80_000_000)  # 640 MB
    code = "from remov3r.pipelines.timing import peak_rss_mb; print(peak_rss_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < held.nbytes / 2**20 < peak_rss_mb()
