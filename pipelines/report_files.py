"""The report's files: the page, and plots as PNG for those who paste them elsewhere."""

from __future__ import annotations

import logging

from remov3r.errors import MissingDependencyError
from remov3r.eval.plots import plot_errors, plot_trajectories
from remov3r.eval.trajectory import frame_errors
from remov3r.pipelines.output_folder import OutputFolder
from remov3r.pipelines.report import ReportInput, report_html

logger = logging.getLogger(__name__)

PLOTS = ("trajectory.png", "errors.png")


def put_report(folder: OutputFolder, data: ReportInput) -> None:
    """Write report.html, and with a reference also trajectory.png and errors.png.

    Raises:
        DataError: as `report_html`, or a file cannot be written.
        MissingDependencyError: there is a reference, and evo is not installed.
    """
    folder.put_text("report.html", report_html(data))
    if data.reference is None:
        return
    reference, result = data.reference, data.result
    errors = {
        "final": frame_errors(result.trajectory, reference, "se3"),
        "as first given out": frame_errors(result.online, reference, "se3"),
    }
    first, last = result.trajectory.timestamps_s[[0, -1]]
    during = (reference.timestamps_s >= first) & (reference.timestamps_s <= last)
    truth = reference.T_world_cam[during if during.any() else slice(None), :3, 3]
    try:
        folder.put(PLOTS[0], lambda path: plot_trajectories(path, errors, truth))
        folder.put(PLOTS[1], lambda path: plot_errors(path, errors, "se3"))
    except MissingDependencyError as error:
        logger.warning("no PNG plots beside the report: %s", error)
