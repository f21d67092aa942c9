"""Draw the plots of the results in a folder: `python -m bench.plots FOLDER`.

Needs matplotlib and nothing of ours; `make bench` has it in an environment
of its own. All plots are drawn again from the JSON, whenever that was made.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot, ticker

from .markdown import plot_name, read

# One colour for each agent in all plots; lines with other names get others.
_COLOURS = {"ours": "#0b5fa5", "theirs": "#c8502d"}
_NAMES = {"ours": "this agent", "theirs": "Neutron's agent"}
_MORE = ("#4b8f3c", "#7b4fa3", "#8a6d1f", "#3b8c8c")
_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.figsize": (6.4, 3.6),
    "font.size": 10,
    "grid.color": "#dddddd",
    "svg.fonttype": "none",  # text stays text: small files
    "svg.hashsalt": "bench",  # the same file for the same figures
}
_MARKED = 20  # more points than these are a curve


def main() -> None:
    """Draw what is in the folder that the command line names."""
    folder = Path(sys.argv[1])
    mpl.use("svg")
    mpl.rcParams.update(_STYLE)
    for result in read(folder):
        for plot in result["plots"]:
            draw(plot, folder / plot_name(plot["title"]))


def draw(plot: dict[str, Any], file: Path) -> None:
    """Draw PLOT, as `Report.plot` describes it, into FILE."""
    figure, axes = pyplot.subplots(layout="constrained")
    more = iter(_MORE)
    for name, points in plot["series"].items():
        xs, ys = zip(*points, strict=True)
        axes.plot(
            xs,
            ys,
            marker="o" if len(xs) < _MARKED else "",
            color=_COLOURS.get(name) or next(more),
            label=_NAMES.get(name, name),
        )
    axes.set(title=plot["title"], xlabel=plot["x"], ylabel=plot["y"])
    for letter, scale, axis in (
        ("x", axes.set_xscale, axes.xaxis),
        ("y", axes.set_yscale, axes.yaxis),
    ):
        if letter in plot["log"]:
            scale("log")
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            axis.set_minor_locator(ticker.NullLocator())
    measured = sorted({x for p in plot["series"].values() for x, _ in p})
    if len(measured) < _MARKED:
        axes.set_xticks(measured)
    if "y" not in plot["log"]:
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
