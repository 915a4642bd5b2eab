"""Every error that this package raises on purpose; the command line prints them in one line."""


class Remov3rError(Exception):
    """Root of all errors that a user can cause and mend."""


class ConfigError(Remov3rError):
    """A configuration key or value is unknown or out of range."""


class DataError(Remov3rError):
    """An input file is missing, truncated or holds values that cannot be right."""


class ShapeError(Remov3rError):
    """Two arrays that belong together differ in size."""


class TrackingError(Remov3rError):
    """No pose could be computed for any frame."""


class OptimizationError(Remov3rError):
    """An optimiser failed and there is no good state to fall back to."""


class MissingDependencyError(Remov3rError):
    """An optional package is not installed; the message names the extra that brings it."""
