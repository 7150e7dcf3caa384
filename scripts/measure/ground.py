"""The ground that is measured on: a file system in memory, a registry, two base images."""

import contextlib
import ctypes
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.error
import urllib.request

from process import run

PROJECT = pathlib.Path(__file__).resolve().parents[2]
CLONE_NEWNS = 0x00020000
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def memory_file_system(directory, gib, keep):
    """An ext4 in memory on `directory`, so that the disk's mood is not what is measured.

    Its image has no name any more once it is mounted, and the mount is in a namespace of this program
    alone: nothing is left however the program ends. Without root the directory is taken as it is.
    With `keep` the mount is everyone's and stays. Without a size the directory is taken as it is, too:
    somebody has put it, and the state of a daemon that is measured, where they should be.
    """
    os.makedirs(directory, exist_ok=True)
    if not gib:
        yield f"`{file_system_type(directory)}`, as it was given"
        return
    if os.geteuid() != 0:
        yield f"`{file_system_type(directory)}`, not in memory (no root)"
        return
    if not keep:
        enter_mount_namespace()
    image = f"/dev/shm/measure-{os.getpid()}.ext4"
    with open(image, "wb") as file:
        file.truncate(gib << 30)
    try:
        # More inodes than usual: a context of a million files has to fit.
        run(["mkfs.ext4", "-q", "-F", "-i", "6144", "-E", "lazy_itable_init=0,nodiscard", image])
        run(["mount", "-o", "loop,discard", image, directory])
    finally:
        os.unlink(image)
    try:
        yield f"ext4 on a loop device in memory ({gib} GiB)"
    finally:
        if not keep:
            run(["umount", directory])


def enter_mount_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    run(["mount", "--make-rprivate", "/"])


def file_system_type(directory):
    return run(["stat", "-f", "-c", "%T", directory]).strip()


@contextlib.contextmanager
def registry(directory):
    """A registry on a free port of the loopback address; gives its `HOST:PORT`."""
    os.makedirs(directory, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    configuration = f"{directory}/registry.json"  # JSON is YAML
    with open(configuration, "w") as file:
        json.dump(
            {
                "version": 0.1,
                "log": {"level": "error", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": f"{directory}/data"}},
                "http": {"addr": address},
            },
            file,
        )
    with open(f"{directory}/log", "wb") as log:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", configuration],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until_it_answers(address, server, f"{directory}/log")
        yield address
    finally:
        server.terminate()
        server.wait()


def wait_until_it_answers(address, server, log):
    until = time.monotonic() + 30
    while True:
        try:
            DIRECT.open(f"http://{address}/v2/").close()
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > until:
                said = pathlib.Path(log).read_text(errors="replace")
                raise SystemExit(f"the registry does not answer: {error}\n{said}") from error
            time.sleep(0.05)


def push_base_images(address):
    """Puts `library/busybox:latest` and `library/debian:12` into the registry."""
    push(address, "library/busybox", "latest", busybox_tar(), ["sh"])
    run([PROJECT / "scripts/debian-base"])
    debian = (PROJECT / "target/debian/debian.tar").read_bytes()
    push(address, "library/debian", "12", debian, ["bash"])


def busybox_tar():
    """The root file system of an image of Debian's busybox-static."""
    program = shutil.which("busybox") or "/bin/busybox"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, mode in {"bin": 0o755, "etc": 0o755, "root": 0o700, "tmp": 0o1777}.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for name, mode, content in [
            ("bin/busybox", 0o755, pathlib.Path(program).read_bytes()),
            ("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n"),
            ("etc/group", 0o644, b"root:x:0:\n"),
        ]:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.size = mode, len(content)
            tar.addfile(entry, io.BytesIO(content))
        for applet in sorted(set(run([program, "--list"]).split()) - {"busybox"}):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, "busybox", 0o777
            tar.addfile(entry)
    return buffer.getvalue()


def push(address, repository, tag, tar, command):
    """Pushes an image of one gzip layer over the distribution protocol."""
    layer = gzip.compress(tar, 6, mtime=0)
    config = {
        "architecture": run(["dpkg", "--print-architecture"]).strip(),
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(tar)]},
        # Some builders count the layers here.
        "history": [{"created_by": "scripts/measure"}],
    }
    config = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", layer)],
    }
    for blob in (layer, config):
        location = request(address, "POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        separator = "&" if "?" in location else "?"
        request(address, "PUT", f"{location}{separator}digest={digest(blob)}", blob, "application/octet-stream")
    path = f"/v2/{repository}/manifests/{tag}"
    request(address, "PUT", path, json.dumps(manifest).encode(), manifest["mediaType"])


def request(address, method, path, body=None, media_type=None):
    url = path if path.startswith("http") else f"http://{address}{path}"
    headers = {"Content-Type": media_type} if media_type else {}
    return DIRECT.open(urllib.request.Request(url, data=body, method=method, headers=headers))


def layer_url(address, repository, tag):
    """Where the registry has the only layer of a base image."""
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    url = f"http://{address}/v2/{repository}"
    with DIRECT.open(urllib.request.Request(f"{url}/manifests/{tag}", headers=accept)) as answer:
        return f"{url}/blobs/{json.load(answer)['layers'][0]['digest']}"


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def descriptor(media_type, content):
    return {"mediaType": media_type, "digest": digest(content), "size": len(content)}
