"""Kinds of data errors that the checker of data sets tells apart; everyone else catches DataError."""

from remov3r.errors import DataError


class MissingFile(DataError):
    """A file that belongs to a frame is not there."""


class DamagedFile(DataError):
    """A file is there but is empty, cut off or of another kind than it should be."""


class PoseFault(DataError):
    """A pose is not sixteen finite numbers or not rigid."""
