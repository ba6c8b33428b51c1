# SPDX-License-Identifier: Apache-2.0
"""The plots of compare and scale. They need matplotlib; who imports this says so where it is not."""

import statistics

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams["svg.fonttype"] = "none"  # text, not a drawing of each letter
from cases import KVTRANS, LABELS, PROGRAMS, SPIN, UNITS  # noqa: E402
from matplotlib import pyplot, ticker  # noqa: E402 - the backend is chosen before


def save(figure, path):
    for suffix in ("svg", "png"):
        figure.savefig(f"{path}.{suffix}", dpi=110)
    pyplot.close(figure)


def draw_comparison(results, verdicts, path):
    """Write path.svg and path.png: for each case the ratio to each other program, and the targets."""
    others = [name for name in results.programs if name not in (KVTRANS, SPIN)]
    ratios = {(case, name): get_goodness(results, case, name) for case in results.cases for name in others}
    cases = [case for case in results.cases if any(ratios[case, name] for name in others)]
    if not cases:
        return
    figure, axes = pyplot.subplots(figsize=(11, 1.8 + 0.3 * len(cases)), layout="constrained")
    for row, case in enumerate(cases):
        shown = [name for name in others if ratios[case, name]]
        for i, name in enumerate(shown):
            at = row + 0.6 * ((i + 1) / (len(shown) + 1) - 0.5)
            values = ratios[case, name]
            label = LABELS[name] if name not in axes.get_legend_handles_labels()[1] else None
            axes.plot([min(values), max(values)], [at, at], color=PROGRAMS[name].colour, linewidth=1.2)
            axes.plot(statistics.median(values), at, "o", color=PROGRAMS[name].colour, markersize=5, label=label)
        draw_targets(axes, verdicts, case, row)
    values = [results.get_median(case.key, KVTRANS, case.figure) * UNITS[case.figure][1] for case in cases]
    units = [UNITS[case.figure][0].split(",")[0] for case in cases]
    names = [f"{case.title}: {value:.3g} {unit}" for case, value, unit in zip(cases, values, units)]
    axes.set_yticks(range(len(cases)), names, fontsize=8)
    axes.set_ylim(len(cases) - 0.5, -0.5)
    axes.set_xscale("log")
    ticks = (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.grid(axis="x", linewidth=0.3)
    for row in range(0, len(cases), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#f4f4f4", zorder=0)
    unique = dict(zip(*reversed(axes.get_legend_handles_labels())))
    places = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0)}  # "outside": from matplotlib 3.7 on only
    axes.legend(unique.values(), unique.keys(), **places, ncols=5, fontsize=8, frameon=False)
    axes.set_xlabel("how many times as good as each other program KVTrans is (median and range of the turns; red: target)")
    save(figure, path)


def get_goodness(results, case, name):
    own, other = (case.key, KVTRANS, case.figure), (case.key, name, case.figure)
    if case.figure in ("us_p50", "cpu_percent"):  # less is better
        own, other = other, own
    return list(results.get_ratios(own, other).values())


def draw_targets(axes, verdicts, case, row):
    """Targets that are ratios of the case's own figure, as far as they can be told in the plot."""
    for verdict in verdicts:
        target = verdict.target
        if target.key == case.key and target.against not in (None, KVTRANS) and target.tool == KVTRANS:
            if verdict.figure == case.figure and verdict.other is verdict.case:
                bound = target.bound if target.at_least else 1 / target.bound
                axes.plot([bound, bound], [row - 0.4, row + 0.4], color="#CC0000", linewidth=1.2)


def draw_curves(panels, path):
    """Write path.svg and path.png. panels: (title, x label, y label, {line: {x: [values]}}, bound or None)."""
    columns = 2
    rows = (len(panels) + columns - 1) // columns
    figure, grid = pyplot.subplots(rows, columns, figsize=(11, 3.4 * rows), layout="constrained", squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    colours = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
    for axes, (title, across, upward, lines, bound) in zip(grid.flat, panels):
        for colour, (label, points) in zip(colours, lines.items()):
            xs = sorted(points)
            middle = [statistics.median(points[x]) for x in xs]
            axes.plot(xs, middle, "o-", color=colour, markersize=4, linewidth=1.2, label=label)
            axes.fill_between(xs, [min(points[x]) for x in xs], [max(points[x]) for x in xs], color=colour, alpha=0.15)
        if bound is not None:
            axes.axhline(bound, color="#CC0000", linewidth=1, linestyle="--", label="bound")
        has_none = any(0 in points for points in lines.values())
        axes.set_xscale("symlog" if has_none else "log")
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            axis.set_minor_formatter(ticker.NullFormatter())
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(across, fontsize=8)
        axes.set_ylabel(upward, fontsize=8)
        axes.grid(which="both", linewidth=0.3)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=7, frameon=False)
    save(figure, path)
