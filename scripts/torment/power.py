#!/usr/bin/env python3
"""Cuts the power of the disk under a store at random moments, and looks what the store makes of it.

    scripts/torment/power.py [--program FILE] [--points N] [--work DIRECTORY] [--seed N]

The store is on an ext4 in a file. A build runs there, with SOURCE_DATE_EPOCH set and umask 027, cold or over
what an earlier one has left, and at a random moment the file system stops writing, as at a power cut: what
has not reached the disk never will. The program is killed and the disk mounted again. Then `fsck --full` may
find nothing but what it repairs, and the same build must give the digest of one that nothing disturbed; after
everything was pruned nothing may be left. Prints how many cuts there were and what was wrong; exits with 1
when anything was. Needs root, mkfs.ext4, loop devices and a static busybox in /bin.
"""

import argparse
import fcntl
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

import full
import stop

# `_IOR('X', 125, __u32)` of ext4, and: the journal is not written out first.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
SIZE = 256 * stop.MIB


def main():
    arguments = parse_arguments()
    random.seed(arguments.seed)
    os.umask(0o027)
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="power-") as directory:
        directory = pathlib.Path(directory)
        world = full.World(directory, arguments.program)
        world.prepare()
        disk, troubles, length = Disk(directory), [], None
        try:
            for _ in range(arguments.points):
                try:
                    length = cut(world, disk, length)
                except full.Wrong as wrong:
                    troubles.append(str(wrong))
                    shutil.rmtree(disk.place / "store", ignore_errors=True)
        finally:
            disk.unmount()
    print(f"{arguments.points} power cuts, {len(troubles)} wrong")
    for trouble in troubles[:5]:
        print(f"    {trouble}")
    if troubles:
        raise SystemExit(1)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=pathlib.Path, default=stop.PROGRAM)
    parser.add_argument("--points", type=int, default=40)
    parser.add_argument("--work", default=None, help="where the file of the file system is")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def cut(world, disk, length):
    """One cut in a build that takes about `length` seconds; gives how long it takes."""
    store = disk.place / "store"
    if length is None:
        began = time.monotonic()
        world.builds(store)
        length = time.monotonic() - began
    if random.random() < 0.6:
        world.succeeds(store, ["prune", "-a", "-f"])
    words = random.choice([full.BUILD, [*full.BUILD[:1], "--no-cache", *full.BUILD[1:]]])
    environment = world.environment(store)
    child = subprocess.Popen(
        [world.program, *words], env=environment, cwd=world.directory,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    time.sleep(random.uniform(0, length * 1.1))
    disk.cut()
    child.kill()
    child.wait()
    disk.restart()
    # What it removes are records and blobs of what was cut off; whatever stays is whole.
    world.run(store, ["fsck", "--full", "--repair"])
    world.succeeds(store, ["fsck", "--full"])
    world.builds(store)
    world.succeeds(store, ["fsck", "--full"])
    if random.random() < 0.3:
        age(store / "blobs/sha256")
        world.is_emptied(store)
    return length


def age(blobs):
    """A blob that was named just before the cut counts as another program's until it is old."""
    for blob in blobs.iterdir():
        os.utime(blob, (1, 1))


class Disk:
    """An ext4 in a file, mounted."""

    def __init__(self, directory):
        self.image, self.place = directory / "image", directory / "place"
        self.place.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(SIZE)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)
        self.mount()

    def mount(self):
        subprocess.run(["mount", "-o", "loop", self.image, self.place], check=True)

    def unmount(self):
        for _ in range(200):
            if subprocess.run(["umount", self.place], stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.05)
        raise SystemExit(f"{self.place} is still in use")

    def cut(self):
        place = os.open(self.place, os.O_RDONLY)
        fcntl.ioctl(place, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(place)

    def restart(self):
        """The disk is a copy of the old one: a process of another's may still have that mounted."""
        self.unmount()
        copy = self.image.with_name("copy")
        subprocess.run(["cp", "--sparse=always", self.image, copy], check=True)
        copy.rename(self.image)
        self.mount()


if __name__ == "__main__":
    sys.exit(main())
