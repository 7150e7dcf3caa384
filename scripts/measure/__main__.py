"""Measures whole builds of mybuild beside other builders.

Each scenario prepares a context; then the builders build it in turn, several times. Printed is the
median for each and mybuild's time as a part of the best peer's and of the floor's, which is plain
tools doing about the least work there is. Everything runs in an ext4 in memory (as root) and from a
registry on the loopback address, both made for the occasion and gone at the end.

The builders, and how to name them:
  mybuild   $MYBUILD, else the newest release build of this project
  buildah   $BUILDAH, else the one in the path; $BUILDAH_FLAGS are flags of `buildah build`
  buildkit  $BUILDCTL, else the one in the path; $BUILDKIT_HOST is the daemon's address

Needs Debian's busybox-static docker-registry mmdebstrap pigz curl e2fsprogs util-linux python3.
"""

import argparse
import contextlib
import dataclasses
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile

import ground
import report
from builders import BUILDERS, Builder
from process import Failed, measure
from scenarios import SCENARIOS, Place

# Who takes longer than this many seconds for one build is not measured a second time.
PATIENCE = 60


def arguments():
    parser = argparse.ArgumentParser(
        prog="measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [scenario.name for scenario in SCENARIOS]
    known = [builder.name for builder in BUILDERS] + [report.FLOOR]
    parser.add_argument("--only", type=listed(names), metavar="NAME,…", help=f"these scenarios: {', '.join(names)}")
    parser.add_argument("--builders", type=listed(known), default=known, metavar="NAME,…", help=", ".join(known))
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each builder (default: 5)")
    parser.add_argument("--work", metavar="DIR", help="empty directory to work in (default: a temporary one)")
    parser.add_argument("--size", type=int, default=14, metavar="GIB", help="of the file system in memory (default: 14); 0: take --work as it is")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full size, to try the script itself")
    parser.add_argument("--results", metavar="FILE", help="JSON of all runs; scenarios it has already are kept or replaced")
    parser.add_argument("--write-docs", action="store_true", help="write docs/performance.md and docs/performance.svg")
    parser.add_argument("--keep", action="store_true", help="leave the directory, its mount and the builders' stores")
    given = parser.parse_args()
    if given.write_docs and given.scale != 1:
        parser.error("--write-docs needs the full size")
    if given.runs < 1:
        parser.error("--runs: at least 1")
    return given


def listed(known):
    """The type of an argument that is a list of known names."""

    def names(text):
        unknown = [name for name in text.split(",") if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
        return text.split(",")

    return names


class Floor(Builder):
    """No builder, but takes its turn like one."""

    name = report.FLOOR

    def wipe(self):
        pass


def main():
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # The registry of this program is here, whatever proxy leads elsewhere.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    work = given.work or tempfile.mkdtemp(prefix="measure-")
    results = report.Results(given.results)
    try:
        with contextlib.ExitStack() as stack:
            file_system = stack.enter_context(ground.memory_file_system(work, given.size, given.keep))
            address = stack.enter_context(ground.registry(f"{work}/registry"))
            ground.push_base_images(address)
            builders = present(given.builders, work)
            trial = Place(f"{work}/trial", address, given.scale)
            for builder in builders:
                builder.settle(trial)
            try:
                for scenario in chosen(given.only):
                    measure_scenario(scenario(), builders, Place(f"{work}/{scenario.name}", address, given.scale), given, results)
            finally:
                if not given.keep:
                    for builder in builders:
                        builder.wipe()
            if given.write_docs:
                write_docs(results, builders, file_system, address, work, given.runs)
    finally:
        if not given.keep:
            shutil.rmtree(work, ignore_errors=True)


def chosen(only):
    return [scenario for scenario in SCENARIOS if scenario.name in (only or ()) or not (only or scenario.asked_for)]


def present(names, work):
    found = []
    for kind in BUILDERS:
        if kind.name in names:
            builder = kind(work)
            why = builder.missing()
            if why:
                print(f"# without {builder.name}: {why}", flush=True)
            else:
                found.append(builder)
    return found + [Floor()] * (report.FLOOR in names)


def measure_scenario(scenario, builders, place, given, results):
    os.makedirs(place.context)
    os.makedirs(place.scratch)
    scenario.prepare(place)
    scenario.before(place)
    # The floor's script asks the registry, which is not what is measured.
    script = scenario.floor(place)
    takes_part = [builder for builder in builders if not scenario.only or builder.name in scenario.only]
    costs = {builder.name: [] for builder in takes_part}
    without = {}
    for builder in takes_part:
        if builder.name == report.FLOOR:
            if not script:
                without[builder.name] = "–"
            continue
        with failing(scenario, builder, without):
            builder.wipe()
            scenario.warm(place, builder)
    for _ in range(min(given.runs, scenario.runs or given.runs)):
        for builder in takes_part:
            taken = costs[builder.name]
            if builder.name in without or (taken and taken[-1].seconds > PATIENCE):
                continue
            with failing(scenario, builder, without):
                taken.append(one_run(scenario, builder, place, script))
    for builder in takes_part:
        taken = costs[builder.name]
        if taken and builder.name not in without and taken[-1].seconds <= PATIENCE:
            with failing(scenario, builder, without):
                set_memory(taken, scenario, builder, place, script)
        if builder.name in without:
            costs[builder.name] = []
    results.add(scenario, costs, without, place.notes)
    say(results, scenario.name)
    if not given.keep:
        shutil.rmtree(place.directory)


def set_memory(costs, scenario, builder, place, script):
    """Runs once more and notes the memory that it takes with the costs of the timed runs."""
    watched = dataclasses.replace(place, watch=True, notes={})
    peak = one_run(scenario, builder, watched, script).peak_mib
    for cost in costs:
        cost.peak_mib = peak


def one_run(scenario, builder, place, script):
    if scenario.cold and builder.name != report.FLOOR:
        builder.wipe()
        scenario.warm(place, builder)
    scenario.before(place)
    shutil.rmtree(place.scratch)
    os.makedirs(place.scratch)
    # What an earlier one left to be written is not this one's business.
    subprocess.run(["sync", "--file-system", place.directory], check=True)
    if builder.name == report.FLOOR:
        return measure([["sh", "-ec", script]], place.log, directory=place.scratch, watch=place.watch)
    return scenario.run(place, builder)


@contextlib.contextmanager
def failing(scenario, builder, without):
    """A builder that fails is left out of the scenario; the others go on."""
    try:
        yield
    except Failed as error:
        without[builder.name] = "failed"
        print(f"# {scenario.name}: {builder.name}: {error}", file=sys.stderr, flush=True)


def say(results, name):
    """A line of figures, and the whole of each builder's costs below it."""
    print("  ".join(f"{title}: {cell}" for title, cell in zip(report.heading(results), report.row(results, name))))
    for builder in results.scenarios[name]["costs"]:
        cpu, peak = results.median(name, builder, "cpu"), results.median(name, builder, "peak_mib")
        remark = results.scenarios[name]["notes"].get(builder)
        print(f"    {builder}: {cpu:.3f} CPU s, {report.memory_text(peak)} MiB{f', {remark}' if remark else ''}")
    sys.stdout.flush()


def write_docs(results, builders, file_system, address, work, runs):
    results.order([scenario.name for scenario in SCENARIOS])
    commands, versions = [], {}
    for builder in builders:
        if builder.name != report.FLOOR:
            versions[builder.name] = builder.version()
            command = " ".join(builder.build("CONTEXT")).replace(builder.binary, os.path.basename(builder.binary))
            commands.append(command.replace(f"{work}/", "").replace(address, "REGISTRY"))
    page = ground.PROJECT / "docs" / "performance.md"
    findings = report.findings(page.read_text()) if page.exists() else ""
    page.write_text(report.page(results, machine(file_system), versions, commands, runs) + findings)
    page.with_suffix(".svg").write_text(report.chart(results))


def machine(file_system):
    text = pathlib.Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return {
        "processor": f"{models[0] if models else platform.machine()}, {os.cpu_count()} of them",
        "memory": f"{memory} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": file_system,
        "user": "root" if os.geteuid() == 0 else "not root",
    }


if __name__ == "__main__":
    main()
