"""The builds that are measured. Each says what it is, prepares a context and gives the floor's work."""

import json
import os
import random
import re
import shutil
import statistics
import tarfile
import uuid
from dataclasses import dataclass, field

from ground import layer_url
from process import Failed, measure, run


@dataclass
class Place:
    """A scenario's directory, the registry it builds from, and the part of the full size to measure.

    `watch` says that memory is what is measured now, and not time.
    """

    directory: str
    address: str
    scale: float
    watch: bool = False
    notes: dict = field(default_factory=dict)

    @property
    def context(self):
        return f"{self.directory}/context"

    @property
    def scratch(self):
        """An empty directory for the floor of each run and for archives."""
        return f"{self.directory}/scratch"

    @property
    def log(self):
        return f"{self.directory}/log"

    @property
    def busybox(self):
        return f"{self.address}/library/busybox:latest"

    @property
    def debian(self):
        return f"{self.address}/library/debian:12"

    def scaled(self, count):
        return max(2, int(count * self.scale))

    def dockerfile(self, text):
        write(f"{self.context}/Dockerfile", text)

    def note(self, builder, text):
        """Remarks on a builder's last run; they are shown below the table."""
        self.notes[builder.name] = text


class Scenario:
    """One build, measured warm: whoever is measured has built it once before, unless `warm` says else."""

    name = what = ""
    cold = False  # every state is thrown away before each timed run, and warmed again
    only = None  # names of the builders that it is for, if not all
    asked_for = False  # runs only when it is named
    runs = None  # runs at most

    def prepare(self, place):
        """Makes the context."""

    def warm(self, place, builder):
        self.before(place)
        measure([builder.build(place.context)], place.log)

    def before(self, place):
        """Changes the context ahead of each build."""

    def run(self, place, builder):
        return measure([builder.build(place.context)], place.log, daemon=builder.daemon, watch=place.watch)

    def floor(self, place):
        """A shell script that does, with plain tools, about the least work that any builder has to do."""


class Pull(Scenario):
    name = "pull"
    what = "`FROM debian:12` and one `RUN true` with nothing in the store: pull, verify, unpack"
    cold = True

    def prepare(self, place):
        place.dockerfile(f"FROM {place.debian}\nRUN true\n")

    def warm(self, place, builder):
        pass

    def floor(self, place):
        return f"curl -s {layer_url(place.address, 'library/debian', '12')} | pigz -dc | tar -x"


class NoopSmall(Scenario):
    name = "noop-small"
    what = "ten steps, all known, nothing changed"

    def prepare(self, place):
        steps = "".join(f"RUN echo {step} > /step{step}\n" for step in range(9))
        place.dockerfile(f"FROM {place.busybox}\n{steps}COPY note /note\n")
        write(f"{place.context}/note", "note\n")

    def floor(self, place):
        return "true"


class NoopFiles(Scenario):
    name = "noop-50k"
    what = "`COPY` of a context of 50,000 files (200 MB), known, nothing changed"
    files = 50_000

    def prepare(self, place):
        place.dockerfile(f"FROM {place.busybox}\nCOPY . /files\nRUN true\n")
        small_files(f"{place.context}/tree", place.scaled(self.files))

    def floor(self, place):
        return f"find {place.context} -printf '%i %s %C@\\n' > /dev/null"


class NoopFewerFiles(NoopFiles):
    name = "noop-5k"
    what = "the same with 5,000 files"
    files = 5_000


class EditOne(NoopFiles):
    name = "edit-one"
    what = "the context of 50,000 files with one of them edited: `COPY` and one `RUN` again"

    def before(self, place):
        write(f"{place.context}/tree/0000/000001", fresh())

    def floor(self, place):
        return f"{super().floor(place)}; cp -a {place.context} copy"


class CopyFiles(NoopFiles):
    name = "copy-50k"
    what = "`COPY` of the context of 50,000 files to a place where it was not before"

    def before(self, place):
        place.dockerfile(f"FROM {place.busybox}\nCOPY . /{fresh()}\n")

    def floor(self, place):
        return f"cp -a {place.context} copy"


class CopyBig(Scenario):
    name = "copy-big"
    what = "`COPY` of one file of 1 GiB to a place where it was not before"
    cold = True  # what they keep of it would fill the file system
    runs = 3

    def prepare(self, place):
        big_file(f"{place.context}/big", place.scaled(1024))

    def before(self, place):
        place.dockerfile(f"FROM {place.busybox}\nCOPY big /{fresh()}\n")

    def floor(self, place):
        return f"cp {place.context}/big copy"


class Chain(Scenario):
    steps = 40
    name = "run-40"
    what = "forty `RUN` of a few bytes, one after the other, none known"

    def before(self, place):
        mark = fresh()
        steps = "".join(f"RUN echo {mark} > /step{step}\n" for step in range(place.scaled(self.steps)))
        place.dockerfile(f"FROM {place.busybox}\n{steps}")

    def run(self, place, builder):
        cost = super().run(place, builder)
        place.note(builder, f"{cost.seconds * 1e3 / place.scaled(self.steps):.1f} ms a step")
        return cost

    def floor(self, place):
        own = "" if os.geteuid() == 0 else "--user --map-root-user "
        one = f"unshare {own}--mount --pid --fork --ipc --uts true"
        return f"for step in $(seq {place.scaled(self.steps)}); do {one}; done"


class Chain120(Chain):
    steps = 120
    name = "run-120"
    what = "a hundred and twenty `RUN`"


class Chain260(Chain):
    steps = 260
    name = "run-260"
    what = "two hundred and sixty `RUN`; other builders take minutes or give up, and are left out"
    only = ["mybuild", "floor"]


class Chain600(Chain):
    steps = 600
    name = "run-600"
    what = "six hundred `RUN`: more layers than one mount takes"
    only = ["mybuild", "floor"]
    runs = 3


class Wide(Scenario):
    name = "wide-16"
    what = "sixteen independent stages that each sleep for half a second, and `COPY --from` each"

    def before(self, place):
        mark, stages = fresh(), range(16)
        text = "".join(f"FROM {place.busybox} AS s{n}\nRUN sleep 0.5; echo {mark} > /out{n}\n" for n in stages)
        text += f"FROM {place.busybox}\n" + "".join(f"COPY --from=s{n} /out{n} /\n" for n in stages)
        place.dockerfile(text)

    def floor(self, place):
        return "for stage in $(seq 16); do sleep 0.5 & done; wait"


class Diamond(Scenario):
    name = "diamond-300"
    what = "three hundred stages in pairs, each a `COPY --from` both stages of the pair before"
    runs = 3

    def before(self, place):
        pairs = place.scaled(149)
        text = f"FROM {place.busybox} AS a0\nRUN echo {fresh()} > /a0; cp /a0 /b0\nFROM a0 AS b0\nRUN touch /c\n"
        for n in range(1, pairs + 1):
            # Whoever follows every path from the end to the start has 2 to the 149th of them to follow.
            from_a, from_b = (f"COPY --from={side}{n - 1} /{side}{n - 1} /{side}{n}\n" for side in "ab")
            text += f"FROM {place.busybox} AS a{n}\n{from_a}{from_b}FROM {place.busybox} AS b{n}\n{from_b}{from_a}"
        place.dockerfile(f"{text}FROM a{pairs}\nCOPY --from=b{pairs} /b{pairs} /end\n")


class RunWrite(Scenario):
    name = "run-write"
    what = "a `RUN` that writes 20,000 files in 200 directories, as the installation of packages does"

    def script(self, place, top, mark):
        loop = f"for j in $(seq 100); do echo {mark} $i $j > {top}/$i/$j; done"
        return f"for i in $(seq {place.scaled(200)}); do mkdir -p {top}/$i; {loop}; done"

    def before(self, place):
        place.dockerfile(f"FROM {place.busybox}\nRUN {self.script(place, '/files', fresh())}\n")

    def floor(self, place):
        return f"busybox sh -c '{self.script(place, 'files', '0' * 32)}'"


class ExportOci(Scenario):
    name = "export-oci"
    what = "a fresh layer of 200 MB over debian:12, and all of it to an OCI archive with gzip"

    def prepare(self, place):
        big_file(f"{place.context}/big", place.scaled(200))

    def before(self, place):
        place.dockerfile(f"FROM {place.debian}\nCOPY big /{fresh()}\nRUN true\n")

    def run(self, place, builder):
        command = builder.build(place.context, archive=f"{place.scratch}/image.tar")
        return measure([command], place.log, daemon=builder.daemon, watch=place.watch)

    def floor(self, place):
        return f"pigz -6 < {place.context}/big > big.gz"


class Compress(Scenario):
    name = "compress-2g"
    what = "a layer of 2 GiB that is in the store to an OCI archive, on two processors (and on one)"
    only = ["mybuild", "floor"]
    runs = 1

    def prepare(self, place):
        big_file(f"{place.context}/big", place.scaled(2048))
        place.dockerfile(f"FROM {place.busybox}\nCOPY big /big\n")

    def warm(self, place, builder):
        pass

    def run(self, place, builder):
        archive, costs, digests = f"{place.scratch}/image.tar", [], []
        for processors in ("0", "0,1"):
            # What was compressed is kept, so each time starts from a store that only has the layer.
            builder.wipe()
            super().warm(place, builder)
            command = ["taskset", "--cpu-list", processors, *builder.build(place.context, archive=archive)]
            costs.append(measure([command], place.log, watch=place.watch))
            digests.append(last_layer(archive))
            os.unlink(archive)
        if digests[0] != digests[1]:
            raise Failed(f"the number of processors changes the bytes: {digests}")
        gain = costs[0].seconds / costs[1].seconds
        one, two = (f"{cost.seconds:.1f} s" for cost in costs)
        place.note(builder, f"one processor {one}, two {two} ({gain:.2f} times as fast), the same bytes")
        return costs[1]

    def floor(self, place):
        return f"taskset --cpu-list 0,1 pigz -6 -p 2 < {place.context}/big > big.gz"


class Twenty(Scenario):
    name = "twenty-at-once"
    what = "twenty builds at once of one Dockerfile of six steps, none known, on one store"
    count = 20

    def before(self, place):
        # What a step leaves is random: images are the same if and only if each step ran once for all.
        step = "RUN sleep 0.1; head -c 16 /dev/urandom > /step"
        steps = "".join(f"{step}{n} # {fresh()}\n" for n in range(6))
        place.dockerfile(f"FROM {place.busybox}\n{steps}")

    def run(self, place, builder):
        one = super().run(place, builder)
        self.before(place)
        ids = [f"{place.scratch}/id{n}" for n in range(self.count)]
        commands = [builder.build(place.context, id_file=file) for file in ids]
        cost = measure(commands, place.log, at_once=True, daemon=builder.daemon, watch=place.watch)
        images = len({builder.image_id(file) for file in ids})
        ratio = cost.seconds / one.seconds
        place.note(builder, f"{ratio:.2f} times one build; {images} different image{'s' * (images > 1)}")
        return cost


class Monorepo(Scenario):
    name = "monorepo-ten"
    what = "ten builds in a row of a context of 60,000 files, 59,000 of them in directories that `.dockerignore` excludes"
    packages = 100

    def prepare(self, place):
        for package in range(place.scaled(self.packages)):
            home = f"{place.context}/packages/p{package}"
            small_files(f"{home}/source", 10, size=1024)
            small_files(f"{home}/node_modules", 590, size=64)
        write(f"{place.context}/.dockerignore", "**/node_modules\n.git\n*.log\n")
        place.dockerfile(f"FROM {place.busybox}\nCOPY packages /packages\nRUN true\n")

    def run(self, place, builder):
        if builder.name == "mybuild" and shutil.which("strace"):
            opened = self.opened(place, builder)
            excluded = sum("node_modules" in name for name in opened)
            place.note(builder, f"{len(opened)} directories opened, {excluded} of them excluded")
        return measure([builder.build(place.context)] * 10, place.log, daemon=builder.daemon, watch=place.watch)

    def opened(self, place, builder):
        """The directories below the context that a build opens."""
        trace = f"{place.scratch}/trace"
        calls = "trace=open,openat,openat2"
        run(["strace", "-f", "-qq", "-y", "-e", calls, "-e", "signal=none", "-o", trace, *builder.build(place.context)])
        with open(trace, errors="replace") as lines:
            found = [re.search(r"O_DIRECTORY.*= \d+<(.*)>$", line) for line in lines]
        return [match[1] for match in found if match and match[1].startswith(f"{place.context}/")]

    def floor(self, place):
        find = f"find {place.context} -name node_modules -prune -o -printf '%i %s %C@\\n'"
        return f"for build in $(seq 10); do {find} > /dev/null; done"


class Million(Scenario):
    name = "context-1m"
    what = "a context of 1,000,000 files of which 30 are copied, nothing changed"
    asked_for = True
    runs = 3

    def prepare(self, place):
        small_files(f"{place.context}/used", 30)
        small_files(f"{place.context}/unused", place.scaled(1_000_000) - 30, size=0)
        place.dockerfile(f"FROM {place.busybox}\nCOPY used /used\n")

    def floor(self, place):
        return f"find {place.context}/used -printf '%i %s %C@\\n' > /dev/null"


class Version(Scenario):
    name = "version"
    what = "`--version`, the median of a hundred"

    def warm(self, place, builder):
        pass

    def run(self, place, builder):
        costs = [measure([builder.version_command()], place.log) for _ in range(100)]
        middle = sorted(costs, key=lambda cost: cost.seconds)[len(costs) // 2]
        middle.cpu = statistics.median(cost.cpu for cost in costs)
        return middle

    def floor(self, place):
        return "true"


SCENARIOS = [
    Version,
    Pull,
    NoopSmall,
    NoopFewerFiles,
    NoopFiles,
    EditOne,
    CopyFiles,
    CopyBig,
    Chain,
    Chain120,
    Chain260,
    Chain600,
    Wide,
    Diamond,
    RunWrite,
    ExportOci,
    Compress,
    Twenty,
    Monorepo,
    Million,
]


def fresh():
    return uuid.uuid4().hex


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def small_files(directory, count, size=4096):
    """Files a hundred to a directory; half of each can be compressed."""
    source = random.Random(count)
    for number in range(count):
        if number % 100 == 0:
            part = f"{directory}/{number // 100:04d}"
            os.makedirs(part, exist_ok=True)
        with open(f"{part}/{number:06d}", "wb") as file:
            file.write(source.randbytes(size // 2) + b"." * (size // 2))


def big_file(path, mebibytes):
    """A file of which half can be compressed."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    source, even = random.Random(mebibytes), b"a line that comes again and again, as lines do.\n" * 10_923
    with open(path, "wb") as file:
        for _ in range(mebibytes):
            file.write((source.randbytes(1 << 19) + even)[: 1 << 20])


def last_layer(archive):
    """The digest of the last layer of the image in an OCI archive."""
    with tarfile.open(archive) as tar:

        def blob(digest):
            return json.load(tar.extractfile(f"blobs/{digest.replace(':', '/')}"))

        index = json.load(tar.extractfile("index.json"))
        return blob(index["manifests"][0]["digest"])["layers"][-1]["digest"]
