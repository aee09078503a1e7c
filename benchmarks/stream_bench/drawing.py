"""The plot of a soak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stream_bench.vitals import UNITS, Vitals

_TITLES = {"memory_mb": "Memory of its own (MB)", "threads": "Threads", "descriptors": "Open descriptors"}
_SAMPLES, _LINE, _TEXT, _GRID = "#2a6f97", "#d1495b", "#333333", "#dddddd"


def draw(
    path: Path,
    samples: Sequence[Vitals],
    results: Sequence[tuple[float, int]],
    warm_up_s: float,
    grown: dict[str, float],
) -> None:
    """Write the plot: one panel a quantity, over minutes.

    Args:
        path: The .png.
        samples: All of them.
        results: Seconds and results so far at that moment.
        warm_up_s: What is before is not judged.
        grown: By how much each quantity grew after it.
    """
    # Loaded only now: it would be most of the memory that is measured.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(len(UNITS) + 1, 1, figsize=(9, 9), sharex=True, constrained_layout=True)
    minutes = np.array([sample.seconds for sample in samples]) / 60
    judged = minutes >= warm_up_s / 60
    for panel, (name, unit) in zip(panels, UNITS.items(), strict=False):
        values = np.array([getattr(sample, name) for sample in samples], float)
        panel.plot(minutes, values, color=_SAMPLES, linewidth=1)
        if judged.sum() > 1:
            times = minutes[judged]
            slope = grown[name] / (times[-1] - times[0])
            middle = np.median(values[judged] - slope * (times - times[0]))
            panel.plot(times[[0, -1]], middle + slope * (times[[0, -1]] - times[0]), color=_LINE, linewidth=1.5)
        panel.set_title(f"{_TITLES[name]}: {grown[name]:+.2f} {unit} along the line", loc="left", color=_TEXT)
        low, high = values.min(), values.max()
        panel.set_ylim(max(low - max(0.3 * (high - low), 3), 0), high + max(0.3 * (high - low), 3))
    moments = np.array([moment for moment, _ in results]) / 60
    counts = np.array([count for _, count in results], float)
    if len(moments) > 1:
        panels[-1].plot(moments[1:], np.diff(counts) / np.diff(moments) / 60, color=_SAMPLES, linewidth=1)
    panels[-1].set_title("Results a second, of all sources", loc="left", color=_TEXT)
    panels[-1].set_ylim(bottom=0)
    panels[-1].set_xlabel("minutes")
    for panel in panels:
        panel.axvspan(0, warm_up_s / 60, color=_GRID, alpha=0.4, linewidth=0)
        panel.grid(color=_GRID, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
