#!/usr/bin/env python3
"""How soon the program ends after Ctrl-C, at random moments of everything that takes long, and what it leaves.

    scripts/torment/stop.py [--program FILE] [--points N] [--only NAME] [--work DIRECTORY] [--most MS]

Each scenario runs once to its end and then N times with a SIGINT to its process group at a random moment.
Prints a line a scenario: how many were interrupted, the median, the 95th percentile and the longest time from
the signal to the end in milliseconds. Afterwards nothing may be left: no process, no mount, no file of an
output; and after one more command nothing in the store that an uninterrupted run would not leave. Exits with 1
when something is left, when an exit code is neither 0 nor 130, or when a 95th percentile exceeds `--most`.
"""

import argparse
import contextlib
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import random
import select
import shutil
import signal
import socketserver
import subprocess
import sys
import tarfile
import tempfile
import threading
import time

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = PROJECT / "target/x86_64-unknown-linux-gnu/release/mybuild"
MIB = 1 << 20
INDEX_TYPE = "application/vnd.oci.image.manifest.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"


def main():
    arguments = parse_arguments()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory(dir=arguments.work, prefix="stop-") as directory:
        world = World(pathlib.Path(directory), arguments.program)
        with world.registry():
            world.prepare()
            names = arguments.only or SCENARIOS
            failed = [name for name in names if not measure(world, name, arguments)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    parser.add_argument("--points", type=int, default=40)
    parser.add_argument("--only", action="append", choices=list(SCENARIOS))
    parser.add_argument("--work", default=None, help="a directory on the file system to try")
    parser.add_argument("--most", type=int, default=200, help="bound on the 95th percentile, in milliseconds")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def measure(world, name, arguments):
    """Interrupts a scenario at so many moments; whether all of it was well."""
    scenario = SCENARIOS[name]
    length, code, said = world.run(scenario, None)
    if code != 0:
        print(f"{name}: fails without a signal ({code}): {said}")
        return False
    times, troubles = [], []
    for _ in range(arguments.points):
        after, code, said = world.run(scenario, random.uniform(0, length))
        if code == 130:
            times.append(after * 1000)
        elif code != 0:
            troubles.append(f"exit code {code}: {said}")
        troubles.extend(world.leftovers())
    times.sort()
    if not times:
        print(f"{name}: never interrupted (it takes {length:.2f} s)")
        return False
    middle, high = times[len(times) // 2], times[min(len(times) - 1, len(times) * 95 // 100)]
    print(
        f"{name:<16} {length:6.2f} s  {len(times):3} interrupted"
        f"  median {middle:5.0f}  p95 {high:5.0f}  longest {times[-1]:5.0f} ms",
        flush=True,
    )
    for trouble in sorted(set(troubles))[:10]:
        print(f"    {trouble}")
    return not troubles and high <= arguments.most


class World:
    """A directory with a store, contexts and a registry."""

    def __init__(self, directory, program):
        self.directory, self.program = directory, program.resolve()
        self.address, self.content = None, {}

    def path(self, name):
        return self.directory / name

    @contextlib.contextmanager
    def registry(self):
        server = Server(("127.0.0.1", 0), Handler)
        server.content = self.content
        self.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()

    def prepare(self):
        """An image of one large file, one of many small ones, a context with both, and a busybox."""
        noise = random.randbytes(MIB)
        large = layer({f"large{n}": noise * 16 for n in range(6)} | {"unlike": random.randbytes(40 * MIB)})
        many = layer({f"d{n % 150}/f{n}": noise[n % 1000 : n % 1000 + 3000] for n in range(15_000)})
        self.serve("app", [large, many])
        context = self.path("context")
        for n in range(15_000):
            file = context / f"many/d{n % 150}/f{n}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(noise[n % 1000 : n % 1000 + 3000])
        (context / "large").write_bytes(noise * 200)
        shutil.copy("/bin/busybox", context / "busybox")
        self.write_dockerfiles()
        with tarfile.open(self.path("archive/large.tar.gz"), "w:gz", compresslevel=1) as archive:
            for name in ["large", "many"]:
                archive.add(context / name, name)
            archive.add(self.path("Dockerfile"), "Dockerfile")
        self.must(["pull", "-q", f"{self.address}/app"])
        self.must(["build", "-q", "-t", "app", "-f", "from", "context"])
        self.must(["save", "-o", "saved.tar", "app"])
        self.path("store").rename(self.path("stored"))
        self.path("store").mkdir()

    def write_dockerfiles(self):
        self.path("archive").mkdir()
        for name, text in {
            "from": f"FROM {self.address}/app\nCOPY large /copied\n",
            "unpack": f"FROM {self.address}/app\nCOPY busybox /busybox\nRUN [\"/busybox\", \"true\"]\n",
            "copy": "FROM scratch\nCOPY . /app\n",
            "copy-run": "FROM scratch\nCOPY . /app\nRUN [\"/app/busybox\", \"true\"]\n",
            "add": "FROM scratch\nADD large.tar.gz /app\n",
            "run-large": 'FROM scratch\nCOPY busybox /\nRUN ["/busybox", "dd", "if=/dev/zero", "of=/f", "bs=1M", "count=600"]\n',
            "Dockerfile": "FROM scratch\nCOPY . /app\n",
            "run-many": 'FROM scratch\nCOPY busybox /\nRUN ["/busybox", "sh", "-c", "/busybox mkdir /d; for n in $(/busybox seq 30000); do echo $n >/d/$n; done"]\n',
        }.items():
            self.path(name).write_text(text)

    def serve(self, name, layers):
        """Puts an image of gzipped layers into the registry."""
        config = {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest(gzip.decompress(bytes)) for bytes in layers]},
        }
        blobs = [json.dumps(config).encode(), *layers]
        kinds = [CONFIG_TYPE, *[LAYER_TYPE] * len(layers)]
        described = [
            {"mediaType": kind, "digest": digest(bytes), "size": len(bytes)} for kind, bytes in zip(kinds, blobs)
        ]
        manifest = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "config": described[0], "layers": described[1:]}
        manifest = json.dumps(manifest).encode()
        for bytes, description in zip(blobs, described):
            self.content[f"/v2/{name}/blobs/{description['digest']}"] = (description["mediaType"], bytes)
        for tag in ["latest", digest(manifest)]:
            self.content[f"/v2/{name}/manifests/{tag}"] = (INDEX_TYPE, manifest)

    def command(self, words):
        environment = {
            "MYBUILD_ROOT": str(self.path("store")),
            "MYBUILD_CONFIG": "/dev/null",
            "HOME": str(self.directory),
            "PATH": os.environ["PATH"],
        }
        words = [word.replace("REGISTRY", self.address) for word in words]
        return [str(self.program), *words], environment

    def must(self, words):
        command, environment = self.command(words)
        subprocess.run(
            command, env=environment, cwd=self.directory, check=True, stdout=subprocess.DEVNULL, timeout=600
        )

    def run(self, scenario, moment):
        """Runs a scenario from its start; gives how long it took, or how long it took to end after the signal
        that came at `moment`, with the exit code and the last words."""
        self.reset(scenario)
        command, environment = self.command(scenario["words"])
        with open(self.path("said"), "wb") as said, contextlib.ExitStack() as stack:
            stdin = stack.enter_context(open(self.path(scenario["stdin"]), "rb")) if "stdin" in scenario else subprocess.DEVNULL
            begin = time.monotonic()
            child = subprocess.Popen(
                command, env=environment, cwd=self.directory, stdin=stdin,
                stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
            )
            if moment is not None and not ends_within(child, moment):
                begin = time.monotonic()
                os.killpg(child.pid, signal.SIGINT)
            if not ends_within(child, 600):
                child.kill()
                raise SystemExit(f"has not ended after 600 s: {child.args}")
            took = time.monotonic() - begin
            code = child.wait()
        return took, code, self.path("said").read_text(errors="replace")[-300:]

    def reset(self, scenario):
        store = self.path("store")
        shutil.rmtree(store)
        store.mkdir(0o700)
        if scenario.get("store") == "stored":
            # What is never written to again need not be copied.
            linked = [self.path("stored") / name for name in ["blobs", "layers-v1"]]
            subprocess.run(["cp", "-al", "-t", store, *linked], check=True)
            rest = [path for path in self.path("stored").iterdir() if path not in linked]
            subprocess.run(["cp", "-a", "-t", store, *rest], check=True)
        shutil.rmtree(self.path("out"), ignore_errors=True)
        self.path("out").mkdir()

    def leftovers(self):
        """What an interrupted run has left that it should not have."""
        found = []
        here = str(self.directory).encode()
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if here in (process / "environ").read_bytes() and int(process.name) != os.getpid():
                    found.append(f"a process is left: {(process / 'cmdline').read_bytes()[:80]}")
        if str(self.directory) in pathlib.Path("/proc/self/mountinfo").read_text():
            found.append("a mount is left")
        found += [f"a file of the output is left: {file.name[:9]}" for file in self.path("out").glob(".mybuild-*")]
        # The next session clears up after one that was cut off.
        self.must(["prune", "-f"])
        store = self.path("store")
        kept = [n for n in os.listdir(store / "tmp-v1") if not n.startswith("partial-")]
        kept += os.listdir(store / "leases-v1")
        found += [f"in the store is left: {name[16:]}" for name in kept]
        return found


SCENARIOS = {
    "pull": {"words": ["pull", "REGISTRY/app"]},
    "unpack": {"words": ["build", "-f", "unpack", "context"]},
    "copy": {"words": ["build", "-f", "copy", "context"]},
    "copy-run": {"words": ["build", "-f", "copy-run", "context"]},
    "add": {"words": ["build", "-f", "add", "archive"]},
    "stdin": {"words": ["build", "-"], "stdin": "archive/large.tar.gz"},
    "run-large": {"words": ["build", "-f", "run-large", "context"]},
    "run-many": {"words": ["build", "-f", "run-many", "context"]},
    "export-oci": {"words": ["build", "-f", "from", "-o", "type=oci,dest=out/a", "context"], "store": "stored"},
    "export-docker": {"words": ["build", "-f", "from", "-o", "type=docker,dest=out/a", "context"], "store": "stored"},
    "export-dir": {"words": ["build", "-f", "from", "-o", "type=oci,tar=false,dest=out/a", "context"], "store": "stored"},
    "export-tar": {"words": ["build", "-f", "from", "-o", "type=tar,dest=out/a", "context"], "store": "stored"},
    "export-local": {"words": ["build", "-f", "from", "-o", "out/a", "context"], "store": "stored"},
    "compress": {"words": ["build", "-f", "from", "-o", "type=oci,dest=out/a,compression=zstd,force-compression=true", "context"], "store": "stored"},
    "save": {"words": ["save", "-o", "out/a", "app"], "store": "stored"},
    "load": {"words": ["load", "-i", "saved.tar"]},
}


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that goes away is what is tried here."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        found = self.server.content.get(self.path)
        if self.path == "/v2/":
            found = ("application/json", b"{}")
        if found is None:
            self.send_error(404)
            return
        kind, content = found
        first, last = 0, len(content) - 1
        wanted = self.headers.get("Range")
        if wanted:
            first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(last + 1 - first))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(memoryview(content)[first : last + 1])

    do_HEAD = do_GET

    def log_message(self, *_):
        """Nobody reads it."""


def ends_within(child, seconds):
    """Waits for the end of a child, and does not reap it, without the 50 ms steps of `Popen.wait(timeout)`."""
    handle = os.pidfd_open(child.pid)
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def layer(files):
    """A gzipped tar of files, by name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def digest(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


if __name__ == "__main__":
    sys.exit(main())
