# SPDX-License-Identifier: Apache-2.0
"""The plot of compare --paged: rates on the left, ratios of the library to the others on the right."""

import statistics

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402 - the backend is chosen before
from paged_cases import LABELS, LIBRARY, SOCKET, TARGETS  # noqa: E402

# Colours that stay apart in print and for colour-blind eyes (Okabe and Ito).
COLOURS = {
    LIBRARY: "#000000",
    "python": "#777777",
    SOCKET: "#56B4E9",
    "fabric": "#009E73",
    "ucx": "#E69F00",
    "ucx64k": "#F0C36B",
    "ucxown": "#D9B38C",
    "nixl": "#D55E00",
    "mooncake": "#CC79A7",
}


def draw(results, path):
    """Write path.svg and path.png."""
    cases = [case for case in results.cases if case.figure == "gb_per_s" and not case.is_ours_alone]
    if not cases:
        print("compare: no plot: there is no case whose figure is a rate")
        return
    height = 1.6 + 0.14 * len(cases) * (len(results.programs) + 1)
    figure = pyplot.figure(figsize=(13, height), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2), height_ratios=(0.3, height - 0.3))
    strip = figure.add_subplot(grid[0, :])  # the legend: no place within the axes is always free
    rates = figure.add_subplot(grid[1, 0])
    ratios = figure.add_subplot(grid[1, 1], sharey=rates)
    ratios.tick_params(labelleft=False)
    draw_rates(rates, results, cases)
    draw_ratios(ratios, results, cases)
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[name]) for name in results.programs]
    labels = [LABELS[name] for name in results.programs]
    strip.legend(handles, labels, fontsize=9, loc="center", ncols=len(labels), frameon=False)
    strip.set_axis_off()
    figure.suptitle("Paged transfers between two processes over TCP loopback (medians, range of the turns)")
    for suffix in ("svg", "png"):
        figure.savefig(f"{path}.{suffix}", dpi=110)
    pyplot.close(figure)


def draw_rates(axes, results, cases):
    width = 0.84 / len(results.programs)
    for i, name in enumerate(results.programs):
        for row, case in enumerate(cases):
            values = list(results.get_turns(case.key, name, "gb_per_s").values())
            if not values:
                continue
            median = statistics.median(values)
            at = row - 0.42 + (i + 0.5) * width
            spread = [[median - min(values)], [max(values) - median]]
            style = {"xerr": spread, "error_kw": {"elinewidth": 0.8, "ecolor": "#777777"}}
            axes.barh(at, median, width * 0.92, color=COLOURS[name], **style)
            axes.annotate(f" {median:.2f}", (max(values), at), va="center", fontsize=6.5)
    axes.set_yticks(range(len(cases)), [case.title for case in cases], fontsize=8)
    axes.set_ylim(len(cases) - 0.45, -0.55)
    axes.set_title("rate, GB/s", fontsize=10)
    axes.grid(axis="x", linewidth=0.3)
    axes.set_axisbelow(True)


def draw_ratios(axes, results, cases):
    """A dot for the median ratio, a line for its range, a tick for a target."""
    for row, case in enumerate(cases):
        best = results.get_best_peer(case.key, "gb_per_s")
        for other, shift in ((best, -0.15), (SOCKET, 0.15)):
            own = (case.key, LIBRARY, "gb_per_s")
            values = results.get_ratios(own, (case.key, other, "gb_per_s")) if other else []
            if values:
                middle = statistics.median(values)
                axes.plot([min(values), max(values)], [row + shift] * 2, color=COLOURS[other], linewidth=1.5)
                axes.plot(middle, row + shift, "o", color=COLOURS[other], markersize=5)
                axes.annotate(
                    f"  {middle:.2f} of {LABELS[other]}", (max(values), row + shift), va="center", fontsize=7
                )
        for target in TARGETS:
            if target.key == case.key and target.against in ("peers", SOCKET) and not target.figure:
                at = row + (0.15 if target.against == SOCKET else -0.15)
                axes.plot([target.bound] * 2, [at - 0.13, at + 0.13], color="#CC0000", linewidth=1.5)
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_xscale("log")
    ticks = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(0.1, 30)
    axes.set_title("kvtrans-perf / best peer, and / gathering socket (red: target)", fontsize=10)
    axes.grid(axis="x", linewidth=0.3)
