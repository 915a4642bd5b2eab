"""Front ends that were run elsewhere: what they wrote is read, checked and handed to the backend."""

from remov3r.frontends.recorded.front_end import RecordedConfig, RecordedFrontEnd
from remov3r.frontends.recorded.layouts import open_recording
from remov3r.frontends.recorded.neutral import NeutralFrame, write_recording
from remov3r.frontends.recorded.recorder import RecordingFrontEnd

__all__ = [
    "NeutralFrame",
    "RecordedConfig",
    "RecordedFrontEnd",
    "RecordingFrontEnd",
    "open_recording",
    "write_recording",
]
