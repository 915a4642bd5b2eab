"""Pack data sets into WebDataset shards (`remov3r data pack`): one tar file per sequence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from remov3r.data.scenes import FoundSequence, find_sequences
from remov3r.data.sources import open_source
from remov3r.errors import DataError
from remov3r.training.framing import Framing, framed
from remov3r.training.tar_shards import ImageFormat, write_tar

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackOptions:
    """How sequences are packed.

    Attributes:
        dataset: their layout, or "auto".
        image: "jpg" or "png" (lossless, about four times the size).
        camera: intrinsics or calibration file, where the data set's own will not do.
        workers: threads, one sequence each at a time (decoding and encoding run outside Python's lock).
    """

    framing: Framing
    dataset: str = "auto"
    image: ImageFormat = "jpg"
    camera: str | None = None
    workers: int = 1


def pack(
    sources: Sequence[Path],
    out: Path,
    options: PackOptions,
    on_sequence: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> int:
    """Pack every sequence at or below the sources; those that lie in `out` already are left as they are.

    Args:
        out: folder of the tar files; several runs may fill it at once with different sources.
        on_sequence: called with name, number done and total after each sequence.
    Returns:
        Number of sequences that were packed.
    Raises:
        DataError: nothing found, two sequences of one name, or a file that cannot be read.
    """
    found = [sequence for source in sources for sequence in find_sequences(source, options.dataset)]
    tars = [out / f"{_name(sequence).replace('/', '_')}.tar" for sequence in found]
    twice = next((tar for tar in tars if tars.count(tar) > 1), None)
    if twice is not None:
        both = ", ".join(str(s.path) for s, tar in zip(found, tars) if tar == twice)
        raise DataError(f"{both}: would all become {twice.name}; pack them into different folders")
    jobs = [(sequence, tar) for sequence, tar in zip(found, tars) if not tar.exists()]
    for number, name in enumerate(_run(partial(_pack_one, options=options), jobs, options.workers), 1):
        on_sequence(name, number + len(found) - len(jobs), len(found))
    return len(jobs)


def _run(
    work: Callable[[tuple[FoundSequence, Path]], str], jobs: list[tuple[FoundSequence, Path]], workers: int
) -> Iterator[str]:
    if workers < 2:
        yield from map(work, jobs)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(work, jobs)


def _pack_one(job: tuple[FoundSequence, Path], options: PackOptions) -> str:
    sequence, tar = job
    source = open_source(sequence.path, sequence.dataset, options.camera, sensor=True)
    frames = (framed(frame, options.framing) for frame in source.frames(list(source.poses())))
    count = write_tar(tar, _name(sequence), sequence.scene, frames, options.image)
    log.info("%s: %d frames", tar, count)
    return source.name


def _name(sequence: FoundSequence) -> str:
    """Name a sequence after its folder, and after its scene where its own name says little (seq-01, clone)."""
    folder = sequence.path.resolve().name
    return folder if folder.startswith(sequence.scene) else f"{sequence.scene}/{folder}"
