# SPDX-License-Identifier: Apache-2.0
"""Medians, ratios within a turn and verdicts of compare, as Markdown tables. It runs nothing."""

import statistics

from cases import KVTRANS, LABELS, RIVALS, SOCKET, UNITS

# What a target that is not about a rate is about.
FIGURES = {
    "cpu_s_per_gib": ": CPU seconds a GiB",
    "submit_us_p50": ": us in the call that starts it",
    "us_p50": ": us",
}


class Results:
    """Figures of all runs, by case and program and turn."""

    def __init__(self, records, cases):
        self.records = [record for record in records if "failed" not in record]
        # What failed in one part of a comparison may have been mended for a later one.
        mended = {(r["program"], case) for r in self.records for case in (r["case"], None)}
        self.failures = {}
        for record in records:
            program, case = record["program"], record.get("case")
            if "failed" in record and (program, case) not in mended:
                self.failures.setdefault((program, record["failed"]), []).append(case)
        self.programs = [name for name in LABELS if (name, None) in mended]
        self.all_cases = {case.key: case for case in cases}
        self.cases = [case for case in cases if any(r["case"] == case.key for r in self.records)]

    def get_turns(self, key, program, figure):
        """{turn: value}; a later run of the same turn counts."""
        turns = {}
        for record in self.records:
            if record["case"] == key and record["program"] == program:
                value = record.get(figure)
                if figure == "messages_per_s":
                    value = record["messages"] / record["seconds"]
                if value is not None:
                    turns[record["turn"]] = value
        return turns

    def get_median(self, key, program, figure):
        turns = self.get_turns(key, program, figure)
        return statistics.median(turns.values()) if turns else None

    def get_memory_rates(self, keys):
        """{(case, turn): GB/s that the machine copied before it}."""
        rates = ((r["case"], r["turn"], r.get("memcpy_gb_per_s")) for r in self.records)
        return {(key, turn): rate for key, turn, rate in rates if rate and key in keys}

    def get_ratios(self, own, other, difference=False):
        """{turn: ratio} of the turns that both (case, program, figure) have."""
        mine, theirs = self.get_turns(*own), self.get_turns(*other)
        common = [turn for turn in mine if turn in theirs]
        return {t: mine[t] - theirs[t] if difference else mine[t] / theirs[t] for t in common}

    def get_best_peer(self, key):
        """The peer with the best median, a time being better when it is smaller."""
        figure = self.all_cases[key].figure
        medians = {peer: self.get_median(key, peer, figure) for peer in RIVALS}
        known = [peer for peer in RIVALS if medians[peer] is not None]
        return (min if figure == "us_p50" else max)(known, key=medians.get, default=None)

    def judge(self, targets):
        """Verdicts on what could be measured: a program that is not there has none against it."""
        known = {*self.programs, *(program for program, _ in self.failures)}
        keys = {case.key for case in self.cases}
        verdicts = []
        for target in targets:
            rivals = RIVALS if target.against == "peers" else (target.against,)
            there = target.against is None or any(rival in self.programs for rival in rivals)
            if there and target.tool in known and {target.key, target.other_key or target.key} <= keys:
                verdicts.append(Verdict(self, target))
        return verdicts


class Verdict:
    """A target and what was found; without values, as our program failed, it is open, which is not met."""

    def __init__(self, results, target):
        self.target = target
        self.case = results.all_cases[target.key]
        self.figure = target.figure or self.case.figure
        self.against = results.get_best_peer(target.key) if target.against == "peers" else target.against
        self.other = results.all_cases[target.other_key or target.key]
        own = (target.key, target.tool, self.figure)
        if not target.against:
            turns = results.get_turns(*own)
        else:
            other = (self.other.key, self.against, self.figure)
            turns = results.get_ratios(own, other, target.difference) if self.against else {}
        self.values = list(turns.values())
        self.value = statistics.median(turns.values()) if turns else None
        # The half of the turns in which the machine copied memory faster.
        rates = {turn: rate for (_, turn), rate in results.get_memory_rates({target.key}).items() if turn in turns}
        limit = statistics.median(rates.values()) if rates else 0
        quick = [turns[turn] for turn, rate in rates.items() if rate >= limit]
        self.quick = statistics.median(quick) if quick else None
        self.met = bool(turns) and target.is_met(self.value)

    def describe(self):
        target = self.target
        text = self.case.title + FIGURES.get(self.figure, "")
        if target.tool != KVTRANS:
            text += f": {LABELS[target.tool].removeprefix('KVTrans, ')}"
        if not target.against:
            return text
        text += " - " if target.difference else " / "
        if self.other is not self.case:
            text += f"{self.other.title}, " if self.against != KVTRANS else self.other.title
        if self.other is self.case or self.against != KVTRANS:
            text += LABELS.get(self.against, "best peer")
        return text

    def get_row(self):
        bound = self.target.describe()
        if not self.values:
            return [self.describe(), "not measured", "", bound, "open"]
        found = f"{format_figure(self.value)} ({format_figure(min(self.values))}"
        found += f" to {format_figure(max(self.values))}, {len(self.values)} turns)"
        return [self.describe(), found, format_figure(self.quick), bound, "met" if self.met else "MISSED"]


def format_figure(value):
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def format_rows(head, rows):
    """A Markdown table whose columns are wide enough to read as text."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(head, widths)) + " |"]
    lines.append("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    for row in rows:
        lines.append("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths)) + " |")
    return "\n".join(lines)


def get_medians(results, case, figure, scale=1):
    """Of all programs, as text."""
    medians = [results.get_median(case.key, name, figure) for name in results.programs]
    return [format_figure(None if value is None else value * scale) for value in medians]


def write_rates(results):
    others = {"/ best peer": None, "/ libfabric": "libfabric", "/ socket": SOCKET}
    rows = []
    for case in results.cases:
        unit, scale = UNITS[case.figure]
        row = [case.title, unit, *get_medians(results, case, case.figure, scale)]
        for other in others.values():
            own, rival = (case.key, KVTRANS, case.figure), other or results.get_best_peer(case.key)
            ratios = results.get_ratios(own, (case.key, rival, case.figure)).values()
            row.append(format_figure(statistics.median(ratios)) if ratios else "")
        rows.append(row)
    return format_rows(["case", "unit", *(LABELS[name] for name in results.programs), *others], rows)


def write_figure(results, figure, cases):
    rows = [[case.title, *get_medians(results, case, figure)] for case in cases]
    return format_rows(["case", *(LABELS[name] for name in results.programs)], [row for row in rows if any(row[1:])])


def write_phases(results):
    """In which phases of the machine the turns were taken."""
    rates = sorted(results.get_memory_rates(results.all_cases).values())
    if not rates:
        return "The machine's phase: not known."
    deciles = statistics.quantiles(rates, n=10) if len(rates) > 1 else rates * 9
    slow = sum(rate < 0.7 * deciles[8] for rate in rates)
    return (
        f"The machine's phases: before a turn it copied memory at {format_figure(statistics.median(rates))} GB/s "
        f"(median; {format_figure(rates[0])} to {format_figure(rates[-1])}); {slow} of {len(rates)} turns were slow, "
        "under 0.7 of the ninth decile. “Quick half”: in the turns with the faster half of these rates."
    )


def write_failures(results):
    lines = []
    for (program, reason), keys in results.failures.items():
        where = sorted({key for key in keys if key})
        lines.append(f"- {LABELS[program]}: {reason}" + (f" ({', '.join(where)})" if where else ""))
    return "\n".join(["Could not be run:", "", *lines])


def write_tables(results, verdicts):
    """Everything, as Markdown."""
    turns = [record["turn"] for record in results.records]
    controls = {record.get("congestion_control", "unknown") for record in results.records}
    bulk = [case for case in results.cases if case.figure == "gb_per_s"]
    parts = [
        f"Medians of up to {max(turns, default=-1) + 1} turns; every byte checked; TCP congestion control: "
        + ", ".join(sorted(controls)),
        write_phases(results),
        write_rates(results),
    ]
    for title, figure, cases in (
        ("CPU seconds a GiB, both processes:", "cpu_s_per_gib", bulk),
        ("Time inside the call that starts a transfer, median, us:", "submit_us_p50", results.cases),
        ("From a write's start until the receiver was told, median, us:", "notified_us_p50", results.cases),
    ):
        parts += [title, write_figure(results, figure, cases)]
    if results.failures:
        parts.append(write_failures(results))
    if verdicts:
        head = ["target", "found", "quick half", "bound", ""]
        parts.append("Targets:\n\n" + format_rows(head, [verdict.get_row() for verdict in verdicts]))
    return "\n\n".join(parts)
