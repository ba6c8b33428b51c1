# SPDX-License-Identifier: Apache-2.0
"""Medians, ratios within a turn and verdicts of compare --paged, as a Markdown table. It runs nothing."""

import statistics

from paged_cases import CASES, LABELS, LIBRARY, PEERS, PYTHON, SOCKET


# What a target that is not about a rate is about.
FIGURES = {
    "cpu_s_per_gib": ": CPU seconds a GiB",
    "submit_us_p50": ": us in the call that starts it",
    "us_p50": ": us each",
}


class Results:
    """Figures of all runs, by case and program and turn."""

    def __init__(self, records):
        self.records = [record for record in records if "failed" not in record]
        present = {record["program"] for record in self.records}
        succeeded = {(record["program"], record["case"]) for record in self.records}
        self.failures = {}
        for record in records:
            program, case = record["program"], record.get("case")
            # What failed in one part of a comparison may have been mended for a later one.
            mended = (program, case) in succeeded or (not case and program in present)
            if "failed" in record and not mended:
                self.failures.setdefault((program, record["failed"]), []).append(case)
        self.programs = [name for name in LABELS if name in present]
        keys = {record["case"] for record in self.records}
        self.cases = [case for case in CASES if case.key in keys]

    def get_turns(self, key, program, figure):
        """{turn: value}; a later run of the same turn counts."""
        turns = {}
        for record in self.records:
            if record["case"] == key and record["program"] == program and record.get(figure) is not None:
                turns[record["turn"]] = record[figure]
        return turns

    def get_median(self, key, program, figure):
        turns = self.get_turns(key, program, figure)
        return statistics.median(turns.values()) if turns else None

    def get_ratios(self, own, other):
        """Ratios within the turns that both (case, program, figure) have."""
        mine, theirs = self.get_turns(*own), self.get_turns(*other)
        return [mine[turn] / theirs[turn] for turn in mine if turn in theirs]

    def get_best_peer(self, key, figure):
        """The peer with the best median, a time being better when it is smaller."""
        medians = {peer: self.get_median(key, peer, figure) for peer in PEERS}
        medians = {peer: value for peer, value in medians.items() if value is not None}
        if not medians:
            return None
        return (min if figure == "us_p50" else max)(medians, key=medians.get)

    def judge(self, targets):
        figures = {case.key: case.figure for case in CASES}
        verdicts = []
        for target in targets:
            figure = target.figure or figures[target.key]
            known = {LIBRARY, *self.programs, *(program for program, _ in self.failures)}
            if target.key not in {case.key for case in self.cases} or target.tool not in known:
                continue
            if target.against is None:
                values = list(self.get_turns(target.key, target.tool, figure).values())
                against = None
            else:
                against = target.against
                if against == "peers":
                    against = self.get_best_peer(target.key, figure)
                own = (target.key, target.tool, figure)
                values = self.get_ratios(own, (target.other_key, against, figure)) if against else []
            verdicts.append(Verdict(target, against, figure, values))
        return verdicts


class Verdict:
    """A target and what was found; without values it is open, which is not met."""

    def __init__(self, target, against, figure, values):
        self.target = target
        self.against = against
        self.figure = figure
        self.values = values
        self.value = statistics.median(values) if values else None
        self.met = bool(values) and target.is_met(self.value)

    def describe(self):
        case = next(case for case in CASES if case.key == self.target.key)
        text = case.title
        text += FIGURES.get(self.figure, "")
        if self.target.tool == PYTHON:
            text += ": Python"
        if self.target.other_key != self.target.key:
            text += " / " + next(c for c in CASES if c.key == self.target.other_key).title
        elif self.against:
            text += f" / {LABELS[self.against]}"
        elif self.target.against == "peers":
            text += " / best peer"
        return text

    def get_row(self):
        if not self.values:
            return [self.describe(), "not measured", self.target.describe(), "open"]
        found = f"{format_figure(self.value)} ({format_figure(min(self.values))}"
        found += f" to {format_figure(max(self.values))}, {len(self.values)} turns)"
        return [self.describe(), found, self.target.describe(), "met" if self.met else "MISSED"]


def format_figure(value):
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def format_rows(head, rows):
    """A Markdown table whose columns are wide enough to read as text."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(head, widths)) + " |"]
    lines.append("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for row in rows:
        lines.append("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths)) + " |")
    return "\n".join(lines)


def write_rates(results):
    head = ["case", "unit", *(LABELS[name] for name in results.programs), "/ best peer"]
    head += ["/ UCX, 64 KiB", "/ socket"]
    rows = []
    for case in results.cases:
        row = [case.title, case.unit]
        for name in results.programs:
            value = results.get_median(case.key, name, case.figure)
            row.append(format_figure(None if value is None else case.scale(value)))
        own = (case.key, LIBRARY, case.figure)
        for other in (results.get_best_peer(case.key, case.figure), "ucx64k", SOCKET):
            ratios = results.get_ratios(own, (case.key, other, case.figure)) if other else []
            row.append(format_figure(statistics.median(ratios)) if ratios else "")
        rows.append(row)
    return format_rows(head, rows)


def write_figure(results, figure, cases):
    head = ["case", *(LABELS[name] for name in results.programs)]
    rows = []
    for case in cases:
        values = [results.get_median(case.key, name, figure) for name in results.programs]
        if any(value is not None for value in values):
            rows.append([case.title, *(format_figure(value) for value in values)])
    return format_rows(head, rows)


def write_failures(results):
    lines = []
    for (program, reason), keys in results.failures.items():
        where = sorted({key for key in keys if key})
        lines.append(f"- {LABELS[program]}: {reason}" + (f" ({', '.join(where)})" if where else ""))
    return lines


def write_table(results, verdicts):
    """Everything, as Markdown."""
    turns = [record["turn"] for record in results.records]
    provided = {record.get("congestion_control", "unknown") for record in results.records}
    bulk = [case for case in results.cases if case.figure == "gb_per_s"]
    parts = [
        f"Medians of up to {max(turns, default=-1) + 1} turns; every byte checked; TCP congestion control: "
        + ", ".join(sorted(provided)),
        write_rates(results),
        "CPU seconds a GiB, both processes:",
        write_figure(results, "cpu_s_per_gib", bulk),
        "Time inside the call that starts a transfer, median, us:",
        write_figure(results, "submit_us_p50", results.cases),
        "From a write's start until the receiver was told, median, us:",
        write_figure(results, "notified_us_p50", results.cases),
    ]
    if results.failures:
        parts.append("\n".join(["Could not be run:", "", *write_failures(results)]))
    if verdicts:
        head = ["target", "found", "bound", ""]
        parts.append("Targets:\n\n" + format_rows(head, [verdict.get_row() for verdict in verdicts]))
    return "\n\n".join(parts)
