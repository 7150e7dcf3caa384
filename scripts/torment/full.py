#!/usr/bin/env python3
"""Fills the disk under a store, and looks whether room can be made again.

    scripts/torment/full.py [--program FILE] [--rounds N] [--only NAME] [--work DIRECTORY] [--seed N]

The store is on a file system of its own, an ext4 in a file or a tmpfs, which is filled by bytes or by files
down to what a random number of them leaves, with SOURCE_DATE_EPOCH set and umask 027. Then builds are tried:
each must give the digest of a build with room, or fail with words that name `mybuild prune`. When nothing at
all is left, `images`, `du`, `fsck`, `rmi` and `prune` must do their work; and when what filled the disk is
gone, builds must give that digest again, and `fsck --full` and an emptied store must find nothing left.
Prints a line a file system, and what was wrong. Exits with 1 when anything was. Needs root, mkfs.ext4, loop
devices and a static busybox in /bin.
"""

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import stop

EPOCH = "1700000000"
MIB = stop.MIB
# Size of the file systems in bytes, and files that they may have.
SIZE, FILES = 96 * MIB, 4000
DOCKERFILE = """\
FROM scratch
COPY . /
RUN ["/busybox", "sh", "-c", "/busybox mkdir /d; for n in $(/busybox seq 300); do echo $n >/d/$n; done"]
RUN ["/busybox", "dd", "if=/dev/zero", "of=/zeros", "bs=1M", "count=8"]
"""
# What needs no room.
ALWAYS = [["images"], ["du"], ["fsck"], ["rmi", "app"], ["prune", "-f"], ["prune", "-a", "-f"], ["images"]]


def main():
    arguments = parse_arguments()
    random.seed(arguments.seed)
    os.umask(0o027)
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="full-") as directory:
        world = World(pathlib.Path(directory), arguments.program)
        world.prepare()
        names = arguments.only or PLACES
        failed = [name for name in names if not torment(world, name, arguments.rounds)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=pathlib.Path, default=stop.PROGRAM)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", action="append", choices=list(PLACES))
    parser.add_argument("--work", default=None, help="where the files of the file systems are")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def torment(world, name, rounds):
    """Fills a file system so many times; whether all of it was well."""
    mount, fill = PLACES[name]
    troubles, world.built, world.refused = [], 0, 0
    with mount(world.directory) as place:
        for _ in range(rounds):
            try:
                world.round(place, fill)
            except Wrong as wrong:
                troubles.append(str(wrong))
                empty(place)
                shutil.rmtree(place / "store", ignore_errors=True)
    print(
        f"{name:<13} {rounds} rounds: {world.built} builds in little room went well, {world.refused} were refused,"
        f" {len(troubles)} wrong",
        flush=True,
    )
    for trouble in troubles[:5]:
        print(f"    {trouble}")
    return not troubles


class World:
    def __init__(self, directory, program):
        self.directory, self.program = directory, program.resolve()
        self.built = self.refused = 0

    def prepare(self):
        context = self.directory / "context"
        context.mkdir()
        shutil.copy("/bin/busybox", context / "busybox")
        for n in range(200):
            (context / f"{n}").write_text(f"small {n}\n")
        (context / "Dockerfile").write_text(DOCKERFILE)
        self.expected = self.succeeds(self.directory / "store", BUILD)

    def environment(self, store):
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.directory), "MYBUILD_ROOT": str(store),
            "MYBUILD_CONFIG": "/dev/null", "SOURCE_DATE_EPOCH": EPOCH,
        }

    def run(self, store, words):
        return subprocess.run(
            [self.program, *words], env=self.environment(store), cwd=self.directory, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=300,
        )

    def succeeds(self, store, words):
        ended = self.run(store, words)
        if ended.returncode != 0:
            raise Wrong(f"`{' '.join(words)}` ends with {ended.returncode}: {ended.stderr[-500:]}")
        return ended.stdout

    def round(self, place, fill):
        store = place / "store"
        if random.random() < 0.7:
            self.builds(store)
        for left in sorted([random.randrange(fill.most) for _ in range(3)], reverse=True):
            fill(place, left)
            self.tries(store)
            empty(place)
        self.builds(store)
        fill(place, 0)
        for words in ALWAYS:
            self.succeeds(store, words)
        empty(place)
        self.builds(store)
        self.succeeds(store, ["fsck", "--full"])
        self.is_emptied(store)

    def is_emptied(self, store):
        """Nothing is left when everything was pruned."""
        for words in [["image", "prune", "-a", "-f"], ["prune", "-a", "-f"]]:
            self.succeeds(store, words)
        for bucket in ["layers-v1", "blobs/sha256", "leases-v1", "tmp-v1"]:
            if names := os.listdir(store / bucket):
                raise Wrong(f"in {bucket} is left: {names[:5]}")

    def builds(self, store):
        if (built := self.succeeds(store, BUILD)) != self.expected:
            raise Wrong(f"with room it gives {built!r}, not {self.expected!r}")

    def tries(self, store):
        """A build without room."""
        ended = self.run(store, random.choice([BUILD, [*BUILD[:1], "--no-cache", *BUILD[1:]]]))
        self.built += ended.returncode == 0
        self.refused += ended.returncode == 1
        if ended.returncode == 0 and ended.stdout != self.expected:
            raise Wrong(f"without room it gives {ended.stdout!r}, not {self.expected!r}")
        if ended.returncode not in (0, 1) or "this is a bug" in ended.stderr:
            raise Wrong(f"without room it ends with {ended.returncode}: {ended.stderr[-500:]}")
        if ended.returncode == 1 and "`mybuild prune`" not in ended.stderr:
            raise Wrong(f"it does not name `mybuild prune`: {ended.stderr[-500:]}")


class Wrong(Exception):
    pass


BUILD = ["build", "-q", "-t", "app", "context"]


def bytes_but(place, left):
    """Leaves so many bytes free."""
    filler = place / "filler"
    filler.mkdir()
    found = os.statvfs(place)
    size = max(0, found.f_bavail * found.f_frsize - left)
    if left == 0:
        return to_the_last_byte(filler)
    with open(filler / "large", "wb") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, size))


def to_the_last_byte(filler):
    with open(filler / "large", "wb", buffering=0) as file:
        for size in (MIB, 4096, 512):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def files_but(place, left):
    """Leaves so many files free."""
    filler = place / "filler"
    filler.mkdir()
    with contextlib.suppress(OSError):
        for n in range(max(0, os.statvfs(place).f_favail - left)):
            (filler / f"{n}").touch()


bytes_but.most, files_but.most = 40 * MIB, 1500


def empty(place):
    shutil.rmtree(place / "filler", ignore_errors=True)


@contextlib.contextmanager
def mounted(directory, words):
    place = directory / "place"
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", *words, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@contextlib.contextmanager
def disk(directory):
    image = directory / "image"
    with open(image, "wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(FILES), image], check=True)
    with mounted(directory, ["-o", "loop", image]) as place:
        yield place


def memory(directory):
    return mounted(directory, ["-t", "tmpfs", "-o", f"size={SIZE},nr_inodes={FILES}", "tmpfs"])


PLACES = {
    "ext4-bytes": (disk, bytes_but), "ext4-files": (disk, files_but),
    "tmpfs-bytes": (memory, bytes_but), "tmpfs-files": (memory, files_but),
}

if __name__ == "__main__":
    sys.exit(main())
