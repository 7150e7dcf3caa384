"""Results as a table, as a chart and as a page."""

import json
import math
import os
import statistics

FLOOR = "floor"
# From here on the page is written by people.
FINDINGS = "## Where the time goes"
COLOURS = {"buildah": "#c2572b", "buildkit": "#2b6cc2", FLOOR: "#9a9a9a"}


class Results:
    """What was measured: for each scenario the cost of each run of each builder, and remarks."""

    def __init__(self, file=None):
        self.file = file
        self.scenarios = {}
        if file and os.path.exists(file):
            with open(file) as text:
                self.scenarios = json.load(text)

    def add(self, scenario, costs, peers_without, notes):
        self.scenarios[scenario.name] = {
            "what": scenario.what,
            "costs": {name: [vars(cost) for cost in all_of_it] for name, all_of_it in costs.items() if all_of_it},
            "without": peers_without,
            "notes": notes,
        }
        if self.file:
            with open(self.file, "w") as text:
                json.dump(self.scenarios, text, indent=1)

    def order(self, names):
        self.scenarios = {name: self.scenarios[name] for name in names if name in self.scenarios}

    def median(self, scenario, builder, field="seconds"):
        costs = self.scenarios[scenario]["costs"].get(builder)
        return statistics.median(cost[field] for cost in costs) if costs else None

    def ratio(self, scenario, others):
        """mybuild's time as a part of the least time of the others."""
        ours = self.median(scenario, "mybuild")
        theirs = [self.median(scenario, other) for other in others]
        theirs = [seconds for seconds in theirs if seconds]
        return ours / min(theirs) if ours and theirs else None

    def builders(self):
        named = {name for scenario in self.scenarios.values() for name in scenario["costs"]}
        return [name for name in ("mybuild", "buildah", "buildkit", FLOOR) if name in named]

    def peers(self):
        return [name for name in self.builders() if name not in ("mybuild", FLOOR)]


def row(results, name):
    """One scenario as cells of text: times, then ratios."""
    times = []
    for builder in results.builders():
        seconds = results.median(name, builder)
        times.append(time_text(seconds) if seconds else results.scenarios[name]["without"].get(builder, "–"))
    ratios = [results.ratio(name, others) for others in (results.peers(), [FLOOR])]
    return [name, *times, *(f"{ratio:.2f}" if ratio else "–" for ratio in ratios)]


def heading(results):
    return ["scenario", *results.builders(), "mybuild / best peer", "mybuild / floor"]


def time_text(seconds):
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def memory_text(mebibytes):
    # A process may be too short-lived for a look at its memory.
    return f"{mebibytes:.0f}" if mebibytes else "–"


def table(rows):
    """Markdown, with numbers to the right."""
    widths = [max(len(cells[column]) for cells in rows) for column in range(len(rows[0]))]
    lines = []
    for number, cells in enumerate(rows):
        padded = [cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(zip(cells, widths))]
        lines.append(f"| {' | '.join(padded)} |")
        if number == 0:
            rule = ["-" * width if not column else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
            lines.append(f"| {' | '.join(rule)} |")
    return "\n".join(lines)


def page(results, machine, versions, commands, runs):
    """The text of docs/performance.md."""
    names = list(results.scenarios)
    builders = [name for name in results.builders() if name != FLOOR]
    costs = [["scenario"] + [f"{name}, {unit}" for name in builders for unit in ("CPU s", "MiB")]]
    for name in names:
        cells = [name]
        for builder in builders:
            cpu, peak = results.median(name, builder, "cpu"), results.median(name, builder, "peak_mib")
            cells += ["–", "–"] if cpu is None else [f"{cpu:.2f}" if cpu >= 0.1 else f"{cpu:.3f}", memory_text(peak)]
        costs.append(cells)
    remarks = [
        f"- {name}: " + "; ".join(f"{builder}: {text}" for builder, text in results.scenarios[name]["notes"].items())
        for name in names
        if results.scenarios[name]["notes"]
    ]
    facts = [f"- {key}: {value}" for key, value in {**machine, **versions}.items()]
    return "\n".join(
        [
            "# Performance",
            "",
            "Whole builds, as a user would run them, beside other builders. What counts is a ratio within one run of the",
            "script: the builders take turns, so that a machine that is slow today is slow for all of them. This page, as",
            "far as “Where the time goes”, and its chart are written by `scripts/measure`:",
            "",
            "```",
            "python3 scripts/measure --write-docs",
            "```",
            "",
            f"Times are the median of {runs} runs; of fewer where `scripts/measure/scenarios.py` says so, and where one build took",
            "longer than a minute.",
            "`floor` is not a builder but plain tools (`cp`, `find`, `tar`, `pigz`, `unshare`) that do about the least work that",
            "the scenario asks of anyone. A ratio below 1 means that mybuild is faster.",
            "",
            "![Time of other builders as a multiple of mybuild's](performance.svg)",
            "",
            table([heading(results), *(row(results, name) for name in names)]),
            "",
            "## Processors and memory",
            "",
            "CPU seconds are user and system time of the builder and of the steps it ran. MiB is the most memory that the",
            "builder's processes held at once, in a run of its own; the steps are left out.",
            "",
            table(costs),
            "",
            "## Remarks",
            "",
            *(remarks or ["None."]),
            "",
            "## The scenarios",
            "",
            *(f"- **{name}**: {results.scenarios[name]['what']}" for name in names),
            "",
            "## How it was run",
            "",
            *facts,
            "",
            "Images come from a registry on the loopback address: busybox from Debian's busybox-static, and a minimal",
            "Debian 12 from `scripts/debian-base`. The commands, with the registry's port and the directories shortened:",
            "",
            "```",
            *commands,
            "```",
            "",
        ]
    )


def findings(page):
    """What somebody has found out about the figures and written below them: it is kept."""
    _, heading, text = page.partition(f"\n{FINDINGS}\n")
    return heading + text


def chart(results):
    """Bars on a logarithmic scale: how many times as long as mybuild each other one takes."""
    bars = []
    for name in results.scenarios:
        ours = results.median(name, "mybuild")
        others = [(other, results.median(name, other)) for other in (*results.peers(), FLOOR)]
        group = [(other, seconds / ours) for other, seconds in others if ours and seconds]
        if group:
            bars.append((name, group))
    left, right, top, line, gap = 130, 760, 56, 14, 10
    ratios = [ratio for _, group in bars for _, ratio in group]
    low = math.floor(math.log10(min([0.5, *ratios])))
    high = math.ceil(math.log10(max([2, *ratios])))

    def across(ratio):
        return left + (math.log10(ratio) - low) / (high - low) * (right - left)

    height = top + sum(len(group) * line + gap for _, group in bars) + 20
    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 840 {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="840" height="{height}" fill="#ffffff"/>',
        '<text x="10" y="18" font-size="13" fill="#222222">Time as a multiple of mybuild\'s (right of the line: slower than mybuild)</text>',
    ]
    shown = [name for name in (*results.peers(), FLOOR) if any(name == other for _, group in bars for other, _ in group)]
    for number, name in enumerate(shown):
        svg.append(f'<rect x="{left + number * 100}" y="27" width="10" height="10" fill="{COLOURS[name]}"/>')
        svg.append(f'<text x="{left + 14 + number * 100}" y="36" fill="#222222">{name}</text>')
    for power in range(low, high + 1):
        x, ours = across(10**power), power == 0
        svg.append(f'<line x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{height - 16}" stroke="{"#222222" if ours else "#dddddd"}"/>')
        svg.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle" fill="#555555">{10**power:g}×</text>')
    y = top
    for name, group in bars:
        svg.append(f'<text x="{left - 8}" y="{y + len(group) * line / 2 + 4:.1f}" text-anchor="end" fill="#222222">{name}</text>')
        for other, ratio in group:
            start, end = sorted((across(1), across(ratio)))
            svg.append(f'<rect x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="{line - 3}" fill="{COLOURS[other]}"/>')
            svg.append(f'<text x="{max(end, across(1)) + 4:.1f}" y="{y + 9}" fill="#222222">{ratio:.2g}×</text>')
            y += line
        y += gap
    return "\n".join([*svg, "</svg>", ""])
