#!/usr/bin/env python3
"""Kills the program at random moments, and looks whether the store is the worse for it.

    scripts/torment/kills.py [--program FILE] [--points N] [--only NAME] [--work DIRECTORY] [--seed N]

Each scenario runs once to its end in a store of its own, and then in N new stores with one to three SIGKILLs,
each at a random moment, with SOURCE_DATE_EPOCH set and umask 027. After them the same command must succeed and
give the digest of the undisturbed one, what ran beside it must have ended well, `fsck --full` must find
nothing, and when all images and the cache are removed, nothing may be left: no layer, blob, lease, lock or
temporary file, no mount and no process. Prints a line a scenario, and what was wrong. Exits with 1 when
anything was. Needs root and a static busybox in /bin.
"""

import argparse
import contextlib
import hashlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import stop

EPOCH = "1700000000"
# How soon what a killed program had started must be gone, in seconds.
SOON = 10
# Locks that a store always has.
LOCKS = ["database", "index", "slots"]


def main():
    arguments = parse_arguments()
    random.seed(arguments.seed)
    os.umask(0o027)
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="kills-") as directory:
        world = World(pathlib.Path(directory), arguments.program)
        with world.registry():
            world.prepare()
            names = arguments.only or SCENARIOS
            failed = [name for name in names if not torment(world, name, arguments.points)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=pathlib.Path, default=stop.PROGRAM)
    parser.add_argument("--points", type=int, default=40)
    parser.add_argument("--only", action="append", choices=list(SCENARIOS))
    parser.add_argument("--work", default=None, help="a directory on the file system to try")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def torment(world, name, points):
    """Kills a scenario at so many moments; whether all of it was well."""
    scenario = SCENARIOS[name]
    # The first time may take longer.
    for _ in range(2):
        world.reset()
        begin = time.monotonic()
        expected = world.outcome(scenario)
        length = time.monotonic() - begin
    killed, troubles = 0, []
    for _ in range(points):
        world.reset()
        moments = [random.uniform(0, length) for _ in range(random.randint(1, 3))]
        try:
            killed += sum(world.kill(scenario, moment) for moment in moments)
            world.check(scenario, expected)
        except Wrong as wrong:
            troubles.append(f"at {moments}: {wrong}")
    print(f"{name:<14} {length:6.2f} s  {points} stores, {killed} kills, {len(troubles)} wrong", flush=True)
    for trouble in troubles[:5]:
        print(f"    {trouble}")
    return not troubles


class World(stop.World):
    """The images and contexts of `stop.py`, and what is compared."""

    def prepare(self):
        noise = random.randbytes(stop.MIB)
        layers = [
            stop.layer({f"large{n}": noise * 4 for n in range(3)}),
            stop.layer({f"d{n % 40}/f{n}": noise[n : n + 3000] for n in range(4000)}),
        ]
        self.serve("app", layers)
        context = self.path("context")
        (context / "many").mkdir(parents=True)
        for n in range(4000):
            (context / f"many/{n}").write_bytes(noise[n : n + 2000])
        (context / "large").write_bytes(noise * 40)
        shutil.copy("/bin/busybox", context / "busybox")
        for name, text in DOCKERFILES.items():
            self.path(name).write_text(text.replace("REGISTRY", self.address))
        self.path("store").mkdir()
        self.reset()
        self.succeeds(["build", "-q", "-t", "app", "-f", "copy", "context"])
        self.succeeds(["save", "-o", "saved.tar", "app"])

    def reset(self):
        for name in ["store", "out"]:
            shutil.rmtree(self.path(name), ignore_errors=True)
            self.path(name).mkdir(0o700)

    def command(self, words):
        command, environment = super().command(words)
        return command, environment | {"SOURCE_DATE_EPOCH": EPOCH}

    def start(self, words, output=subprocess.DEVNULL):
        command, environment = self.command(words)
        return subprocess.Popen(
            command, env=environment, cwd=self.directory, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )

    def succeeds(self, words):
        command, environment = self.command(words)
        ended = subprocess.run(
            command, env=environment, cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True, timeout=600,
        )
        if ended.returncode != 0:
            said = (ended.stdout + ended.stderr).decode(errors="replace")
            raise Wrong(f"`{' '.join(words)}` ends with {ended.returncode}: {said[-500:]}")
        return ended.stdout.decode()

    def outcome(self, scenario):
        """What the scenario gives: digests of images, or of what was written."""
        said = self.succeeds(scenario["words"])
        written = self.path("out/a")
        if written.exists():
            return hashlib.sha256(written.read_bytes()).hexdigest()
        if "shown" in scenario:
            return self.succeeds(scenario["shown"])
        return said

    def kill(self, scenario, moment):
        """Starts it and kills it; whether it still ran."""
        if "killed" in scenario:
            self.outcome(scenario)
        with contextlib.ExitStack() as stack:
            alone = [(words, self.alone(words)) for words in scenario.get("beside", [])]
            beside = [stack.enter_context(self.beside(*words)) for words in alone]
            child = self.start(scenario.get("killed", scenario["words"]))
            is_killed = not stop.ends_within(child, moment)
            if is_killed:
                os.kill(child.pid, signal.SIGKILL)
            code = child.wait()
            if not is_killed and code != 0:
                raise Wrong(f"it ends with {code} by itself")
        for words, expected, ended in beside:
            said, code = ended
            if code != 0 or (expected and said != expected):
                raise Wrong(f"beside it `{' '.join(words)}` ends with {code}: {said[-300:]}")
        return is_killed

    @contextlib.contextmanager
    def beside(self, words, expected):
        """Runs a command beside what is killed, to its end."""
        ended = []
        with tempfile.TemporaryFile("w+") as output:
            child = self.start(words, output)
            try:
                yield words, expected, ended
            finally:
                code = child.wait(600)
                output.seek(0)
                ended += [output.read(), code]

    def alone(self, words):
        """What a build gives in a store of its own; nothing of other commands."""
        if words[0] != "build":
            return None
        known = self.__dict__.setdefault("known", {})
        key = tuple(words)
        if key not in known:
            store, aside = self.path("store"), self.path("aside")
            store.rename(aside)
            store.mkdir(0o700)
            known[key] = self.succeeds(words)
            shutil.rmtree(store)
            aside.rename(store)
        return known[key]

    def check(self, scenario, expected):
        hidden = [file.name for file in self.path("out").glob(".*")]
        if hidden:
            raise Wrong(f"a file of the output is left: {hidden}")
        found = self.outcome(scenario)
        if found != expected:
            raise Wrong(f"afterwards it gives {found!r}, not {expected!r}")
        self.succeeds(["fsck", "--full"])
        for left in self.left(["leases-v1", "tmp-v1"]):
            raise Wrong(left)
        for words in [["image", "prune", "-a", "-f"], ["prune", "-a", "-f"]]:
            self.succeeds(words)
        for left in self.left(["leases-v1", "tmp-v1", "layers-v1", "blobs/sha256", "mounts-v1", "locks-v1"]):
            raise Wrong(left)

    def left(self, places):
        """What is left in the store, and of processes."""
        for place in places:
            names = os.listdir(self.path("store") / place)
            names = [name for name in names if not name.startswith("partial-") and name not in LOCKS]
            if names:
                yield f"in {place} is left: {names[:5]}"
        end = time.monotonic() + SOON
        while (users := self.users()) and time.monotonic() < end:
            time.sleep(0.02)
        yield from users

    def users(self):
        """Processes that have the store mounted, or are the program."""
        here = str(self.directory).encode()
        found = []
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_ours = int(process.name) == os.getpid()
                if not is_ours and (here in (process / "environ").read_bytes() or here in (process / "mountinfo").read_bytes()):
                    found.append(f"a process is left: {(process / 'cmdline').read_bytes()[:80]}")
        return found


class Wrong(Exception):
    pass


DOCKERFILES = {
    "chain": "FROM scratch\nCOPY busybox /bin/\n"
    + "".join(
        'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox mkdir /%d && cd /%d && for n in 1 2 3 4 5 6 7 8 9; do echo $n >$n; done; '
        '/bin/busybox dd if=/bin/busybox of=large bs=64k 2>/dev/null"]\n' % (n, n)
        for n in range(6)
    )
    + 'RUN --mount=type=cache,target=/cache ["/bin/busybox", "rm", "-r", "/3"]\n',
    "copy": "FROM scratch\nCOPY . /app\n",
    "two": "FROM scratch AS a\nCOPY many /many\nFROM scratch\nCOPY --from=a /many /again\nCOPY large /\n",
    "pulled": "FROM REGISTRY/app\nCOPY busybox /\nRUN [\"/busybox\", \"rm\", \"-r\", \"/d1\"]\n",
}
IDS = ["images", "--no-trunc", "--format", "{{.ID}}"]
SCENARIOS = {
    "run": {"words": ["build", "-q", "-t", "app", "-f", "chain", "context"]},
    "copy": {"words": ["build", "-q", "-t", "app", "-f", "two", "context"]},
    "pull": {"words": ["build", "-q", "-t", "app", "-f", "pulled", "context"]},
    "pull-alone": {"words": ["pull", "-q", "REGISTRY/app"], "shown": IDS},
    "load": {"words": ["load", "-i", "saved.tar"], "shown": IDS},
    "export": {"words": ["build", "-q", "-f", "two", "-o", "type=oci,dest=out/a", "context"]},
    "export-tar": {"words": ["build", "-q", "-f", "two", "-o", "type=tar,dest=out/a", "context"]},
    "beside": {
        "words": ["build", "-q", "-t", "app", "-f", "chain", "context"],
        "beside": [["build", "-q", "-t", "other", "-f", "chain", "context"], ["build", "-q", "-f", "two", "context"]],
    },
    "beside-prune": {
        "words": ["build", "-q", "-t", "app", "-f", "chain", "context"],
        "beside": [["prune", "-a", "-f"], ["build", "-q", "-f", "copy", "context"]],
    },
    "prune": {
        "words": ["build", "-q", "-t", "app", "-f", "two", "context"],
        "killed": ["prune", "-a", "-f"],
        "beside": [["build", "-q", "-t", "other", "-f", "chain", "context"]],
    },
}

if __name__ == "__main__":
    sys.exit(main())
