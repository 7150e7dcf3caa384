#!/usr/bin/env python3
"""Damages files of a store at random, and looks whether anything wrong ever comes out of it.

    scripts/torment/damage.py [--program FILE] [--rounds N] [--work DIRECTORY] [--seed N]

An image is built with a base, a stage, copies, steps and a cache mount. Then, N times, one file of the store is
flipped, rewritten, cut, removed, replaced by a link, swapped with another, given another mode, or grown, and
commands are run: the image, a build to an archive, a build to files, `images`, `save`, `prune`, `fsck --full`.
What a command gives must be what it gave before the damage, or a clean failure where the command cannot make
again what was lost (`run`, `save` and `images` when the image is gone); a build must always succeed. The store
is the same one from round to round, so that all damage has to heal. Prints a line a failure, and the counts.
Needs root and a static busybox in /bin. Exits with 1 when anything wrong came out.
"""

import argparse
import collections
import hashlib
import os
import pathlib
import random
import shutil
import subprocess
import tarfile
import tempfile

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = PROJECT / "target/x86_64-unknown-linux-gnu/release/mybuild"
BUSYBOX = "/bin/busybox"
BASE = "FROM scratch\nCOPY . /\nENV PATH=/bin\n"
DOCKERFILE = """\
FROM base AS tools
RUN echo from a stage > /tool
FROM base
RUN echo from a step > /step && busybox rm /many/7
COPY tree /tree
COPY --from=tools /tool /tool
RUN --mount=type=cache,target=/cache busybox cat /step /tool /tree/* > /all; echo once >> /cache/log
"""
SHOWN = ["run", "--network", "none", "app", "busybox", "cat", "/all", "/step", "/tool", "/tree/3", "/many/8"]
# What a program that has crashed or has found a fault of its own says or ends with.
CRASH = (b"this is a bug", b"panicked")


def main():
    arguments = parse_arguments()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="damage-") as directory:
        world = World(pathlib.Path(directory), arguments.program)
        world.prepare()
        failures = 0
        counts = collections.Counter()
        for number in range(arguments.rounds):
            what = world.damage()
            for trouble in world.look(counts):
                failures += 1
                print(f"round {number}: {what}: {trouble}", flush=True)
    print(f"{arguments.rounds} mutations, {failures} wrong; " + ", ".join(f"{n} {k}" for k, n in counts.items()))
    raise SystemExit(1 if failures else 0)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    parser.add_argument("--rounds", type=int, default=130)
    parser.add_argument("--work", default=None, help="a directory on the file system to try")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


class World:
    def __init__(self, directory, program):
        self.directory, self.program = directory, program.resolve()
        self.store = directory / "store"

    def prepare(self):
        base, context = self.directory / "base-context", self.directory / "context"
        for path in (base / "bin", base / "many", base / "dev", base / "proc", context / "tree", self.directory / "tmp"):
            path.mkdir(parents=True)
        shutil.copy2(BUSYBOX, base / "bin/busybox")
        (base / "bin/sh").symlink_to("busybox")
        for number in range(100):
            (base / f"many/{number}").write_text(f"file {number} of many\n" * (1 + number * 7 % 90))
        for number in range(20):
            (context / f"tree/{number}").write_text(f"file {number}\n")
        (base / "Dockerfile").write_text(BASE)
        (base / ".dockerignore").write_text("Dockerfile\n.dockerignore\n")
        (context / "Dockerfile").write_text(DOCKERFILE)
        layout = f"type=oci,tar=false,compression=gzip,dest={self.directory / 'base'}"
        self.succeeds("-q", "-o", layout, "base-context", root=self.directory / "base-store")
        self.image = self.build_archive()
        self.files = self.build_files()
        self.name_image()
        self.shown = self.succeeds(*SHOWN).stdout
        self.saved = self.save()
        for path in (context / "tree/3",):
            assert path.read_bytes() in self.shown

    def run(self, *words, root=None):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "TMPDIR": str(self.directory / "tmp"),
            "MYBUILD_ROOT": str(root or self.store),
            "SOURCE_DATE_EPOCH": "1700000000",
        }
        return subprocess.run(
            [self.program, *words], cwd=self.directory, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=120, umask=0o027,
        )

    def succeeds(self, *words, root=None):
        ended = self.run(*words, root=root)
        if ended.returncode != 0:
            raise Wrong(f"{words[0]} ends with {ended.returncode}: {ended.stderr.decode(errors='replace')[-600:]}")
        return ended

    def build(self, *words):
        base = f"base=oci-layout://{self.directory / 'base'}"
        return self.succeeds("build", "--progress", "plain", "--build-context", base, *words, "context")

    def name_image(self):
        self.build("-t", "app")

    def build_archive(self):
        archive = self.directory / "image.tar"
        self.build("-o", f"type=oci,dest={archive}")
        return hashlib.sha256(archive.read_bytes()).hexdigest()

    def build_files(self):
        target = self.directory / "files"
        shutil.rmtree(target, ignore_errors=True)
        self.build("-o", f"type=local,dest={target}")
        return digest_of(target)

    def save(self):
        archive = self.directory / "saved.tar"
        self.succeeds("save", "-o", str(archive), "app")
        return members_of(archive)

    def targets(self):
        """Files of the store by where they are, so that each place is as likely as the others. What is in a
        cache mount is left out: it is the steps' own, and a step that cannot use what it finds there fails."""
        places = collections.defaultdict(list)
        for path in self.store.rglob("*"):
            if path.is_symlink() or not path.is_dir():
                parts = path.relative_to(self.store).parts
                place = "beside a tree" if parts[0] == "layers-v1" and len(parts) == 3 else parts[0]
                is_of_steps = parts[0] == "mounts-v1" and len(parts) > 3
                if not parts[0].startswith("ballast") and parts[0] != "leases-v1" and not is_of_steps:
                    places[place].append(path)
        return places

    def damage(self):
        places = self.targets()
        path = random.choice(places[random.choice(sorted(places))])
        others = [p for paths in places.values() for p in paths if p.is_file() and not p.is_symlink()]
        kind = random.choice(sorted(KINDS))
        name = path.relative_to(self.store)
        if path.is_symlink() or not path.is_file():
            path.unlink()
            return f"remove {name}"
        KINDS[kind](path, random.choice(others))
        return f"{kind} {name}"

    def look(self, counts):
        """What is wrong."""
        looks = [self.look_at_run, self.look_at_files, self.look_at_archive, self.look_at_images, self.look_at_save]
        random.shuffle(looks)
        for look in [*looks[: random.randint(1, len(looks))], self.look_at_check, self.look_at_archive]:
            try:
                look(counts)
            except Wrong as wrong:
                yield str(wrong)

    def may_fail(self, *words):
        """The end of a command that may have lost its image, if it did well."""
        ended = self.run(*words)
        if ended.returncode < 0 or any(said in ended.stderr for said in CRASH):
            raise Wrong(f"{words[0]} crashes with {ended.returncode}: {ended.stderr.decode(errors='replace')[-600:]}")
        return ended if ended.returncode == 0 else None

    def look_at_run(self, counts):
        ended = self.may_fail(*SHOWN)
        counts["runs"] += 1
        counts["runs refused"] += ended is None
        counts["runs warned"] += ended is not None and b"again" in ended.stderr
        if ended is not None and ended.stdout != self.shown:
            raise Wrong("a container sees something else")

    def look_at_files(self, counts):
        counts["outputs"] += 1
        if self.build_files() != self.files:
            raise Wrong("the files are others")

    def look_at_archive(self, counts):
        counts["archives"] += 1
        if self.build_archive() != self.image:
            raise Wrong("the image is another one")

    def look_at_images(self, counts):
        counts["listings"] += 1
        self.may_fail("images")
        self.may_fail("du")

    def look_at_save(self, counts):
        archive = self.directory / "saved.tar"
        archive.unlink(missing_ok=True)
        ended = self.may_fail("save", "-o", str(archive), "app")
        counts["saves"] += 1
        if ended is not None and members_of(archive) != self.saved:
            others = [name for name, _, _ in members_of(archive) ^ self.saved]
            raise Wrong(f"what is saved is something else: {sorted(others)}")

    def look_at_check(self, counts):
        found = self.run("fsck", "--full", "--repair")
        counts["damage found"] += found.returncode == 1
        if found.returncode not in (0, 1):
            raise Wrong(f"fsck ends with {found.returncode}: {found.stderr.decode(errors='replace')[-600:]}")
        self.name_image()
        whole = self.run("fsck", "--full")
        if whole.returncode != 0:
            raise Wrong(f"not whole after a repair: {whole.stdout.decode(errors='replace')[-600:]}")


class Wrong(Exception):
    pass


def digest_of(directory):
    """Of names, modes, links and contents."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.relative_to(directory)} {path.lstat().st_mode:o} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def members_of(archive):
    """Names, times and digests of what is in an archive, but for the names of images: there is no telling
    a damaged name from another one."""
    with tarfile.open(archive) as members:
        files = [m for m in members if m.name != "index.json"]
        content = [(m, members.extractfile(m).read() if m.isfile() else b"") for m in files]
        return {(m.name, m.mtime, hashlib.sha256(content).hexdigest()) for m, content in content}


def with_times(path, change):
    """Changes a file and sets its times back."""
    found = path.stat()
    change()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def flip(path, _other):
    content = bytearray(path.read_bytes())
    if content:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        with_times(path, lambda: write(path, content))


def rewrite(path, _other):
    with_times(path, lambda: write(path, random.randbytes(path.stat().st_size)))


def write(path, content):
    with open(path, "r+b") as file:
        file.write(content)


def cut(path, _other):
    os.truncate(path, random.randrange(path.stat().st_size + 1))


def grow(path, _other):
    with open(path, "ab") as file:
        file.write(b"more")


def remove(path, _other):
    path.unlink()


def change_mode(path, _other):
    path.chmod(path.stat().st_mode & 0o7777 ^ random.choice([0o111, 0o400, 0o004, 0o4000]))


def link(path, other):
    path.unlink()
    path.symlink_to(other)


def swap(path, other):
    if path != other:
        aside = path.with_name("aside")
        path.rename(aside)
        other.rename(path)
        aside.rename(other)


def make_directory(path, _other):
    path.unlink()
    path.mkdir()


KINDS = {
    "flip": flip, "rewrite": rewrite, "cut": cut, "grow": grow, "remove": remove, "chmod": change_mode,
    "link": link, "swap": swap, "directory for": make_directory,
}

if __name__ == "__main__":
    main()
