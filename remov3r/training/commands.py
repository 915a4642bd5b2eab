"""What the command lines of training share."""

from __future__ import annotations

import logging
from collections.abc import Callable

from remov3r.errors import Remov3rError

log = logging.getLogger(__name__)


def exit_status(work: Callable[[], None]) -> int:
    """Do the work with plain messages; return 0, or 1 after one line that says what went wrong."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        work()
    except (Remov3rError, OSError) as error:
        log.error("error: %s", error)
        return 1
    return 0
