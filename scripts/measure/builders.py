"""The builders that are compared, each as the commands that it is run with."""

import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import process
from ground import PROJECT
from process import Failed, run


class Builder:
    """What all of them have: a name, a binary, perhaps a daemon's process id."""

    name = binary = ""
    daemon = None

    def version_command(self):
        return [self.binary, "--version"]

    def version(self):
        return run(self.version_command()).strip()

    def settle(self, place):
        """Finds out what it needs to work here at all; the place is for trying."""


class MyBuild(Builder):
    """The binary in $MYBUILD, else the release build of this project."""

    name = "mybuild"

    def __init__(self, work):
        release = sorted(PROJECT.glob("target/**/release/mybuild"), key=os.path.getmtime)
        self.binary = os.environ.get("MYBUILD") or (str(release[-1]) if release else "")
        self.store = f"{work}/mybuild-store"

    def missing(self):
        return None if os.access(self.binary, os.X_OK) else "no release build, and $MYBUILD is not set"

    def build(self, context, archive=None, id_file=None):
        command = [self.binary, "--root", self.store, "build", "--progress", "quiet", "-t", "measured:latest"]
        if archive:
            command += ["--output", f"type=oci,dest={archive}"]
        if id_file:
            command += ["--iidfile", id_file]
        return [*command, context]

    def image_id(self, id_file):
        return pathlib.Path(id_file).read_text().strip()

    def wipe(self):
        shutil.rmtree(self.store, ignore_errors=True)


class Buildah(Builder):
    """The binary in $BUILDAH, else the one in the path, with the flags in $BUILDAH_FLAGS.

    Without the variable they are the first of these with which a `RUN` works here at all.
    """

    ways = ["", "--runtime /usr/sbin/runc", "--isolation chroot"]

    name = "buildah"

    def __init__(self, work):
        self.binary = os.environ.get("BUILDAH") or shutil.which("buildah") or ""
        self.flags = []
        self.store = f"{work}/buildah-store"
        self.state = ["--root", self.store, "--runroot", f"{work}/buildah-run"]

    def missing(self):
        return None if self.binary else "not in the path, and $BUILDAH is not set"

    def settle(self, place):
        place.dockerfile(f"FROM {place.busybox}\nRUN true\n")
        given = os.environ.get("BUILDAH_FLAGS")
        for way in self.ways if given is None else [given]:
            self.flags = shlex.split(way)
            try:
                run(self.build(place.context))
                return
            except Failed as error:
                why = error
        print(f"# buildah: no `RUN` works here: {why}", file=sys.stderr)

    def build(self, context, archive=None, id_file=None):
        command = [self.binary, *self.state, "build", "--quiet", "--layers", "--tls-verify=false", *self.flags]
        command += ["-t", f"oci-archive:{archive}" if archive else "measured:latest"]
        if id_file:
            command += ["--iidfile", id_file]
        return [*command, context]

    def image_id(self, id_file):
        return pathlib.Path(id_file).read_text().strip()

    def wipe(self):
        # It keeps overlay mounts of its own, so the directory cannot just be removed.
        for command in (["rm", "--all"], ["rmi", "--all", "--force"]):
            subprocess.run([self.binary, *self.state, *command], capture_output=True, check=False)


class BuildKit(Builder):
    """The binary in $BUILDCTL, else the one in the path, as client of the daemon at $BUILDKIT_HOST."""

    name = "buildkit"

    def __init__(self, _work):
        self.binary = os.environ.get("BUILDCTL") or shutil.which("buildctl") or ""
        self.host = os.environ.get("BUILDKIT_HOST", "")
        if not self.missing() and self.host.startswith("unix://"):
            self.daemon = process.peer(self.host.removeprefix("unix://"))

    def missing(self):
        if not self.binary:
            return "no buildctl in the path, and $BUILDCTL is not set"
        return None if self.host else "$BUILDKIT_HOST is not set"

    def build(self, context, archive=None, id_file=None):
        command = [self.binary, "build", "--progress", "plain", "--frontend", "dockerfile.v0"]
        command += ["--local", f"context={context}", "--local", f"dockerfile={context}"]
        command += ["--output", f"type=oci,dest={archive}" if archive else "type=image,name=measured:latest"]
        if id_file:
            command += ["--metadata-file", id_file]
        return command

    def image_id(self, id_file):
        return json.loads(pathlib.Path(id_file).read_text())["containerimage.digest"]

    def wipe(self):
        run([self.binary, "prune", "--all"])


BUILDERS = [MyBuild, Buildah, BuildKit]
