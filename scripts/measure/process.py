"""Commands with what they cost: time, processor time, memory."""

import os
import shlex
import signal
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass

LIMIT_SECONDS = 1800
LONGEST_PAUSE = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A command ended with another status than 0; the text is the end of what it said."""


@dataclass
class Cost:
    """What commands took: seconds on the clock, seconds of processors, most memory at once in MiB."""

    seconds: float
    cpu: float
    peak_mib: float


def run(command, **options):
    """Runs a command whose cost is of no interest and gives back its standard output."""
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if done.returncode:
        raise Failed(f"{shlex.join(map(str, command))}: {done.stderr[-2000:]}")
    return done.stdout


def measure(commands, log, at_once=False, daemon=None, directory=None, watch=False):
    """The cost of commands, one after the other or all at once.

    Their output goes to the file `log`. A process of another process namespace is a build's step and
    counts for the processor time alone. `daemon` is the id of a process that works for the commands.
    Memory is looked at only if asked for with `watch`: looking takes processor time from short commands.
    """
    before = daemon_cpu(daemon)
    batches = [commands] if at_once else [[command] for command in commands]
    cpu, peak = 0.0, 0.0
    started = time.monotonic()
    for batch in batches:
        batch_cpu, batch_peak = run_batch(batch, log, daemon, directory, watch)
        cpu, peak = cpu + batch_cpu, max(peak, batch_peak)
    seconds = time.monotonic() - started
    return Cost(seconds, cpu + daemon_cpu(daemon) - before, peak)


def run_batch(batch, log, daemon, directory, watch):
    with open(log, "wb") as output:
        children = [
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=directory,
                start_new_session=True,
            )
            for command in batch
        ]
    memory = Memory([child.pid for child in children], daemon)
    timer = threading.Timer(LIMIT_SECONDS, kill, [children])
    timer.daemon = True
    timer.start()
    if watch:
        memory.start()
    cpu, failed = 0.0, None
    try:
        for child, command in zip(children, batch):
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            cpu += usage.ru_utime + usage.ru_stime
            if child.returncode:
                failed = failed or (command, child.returncode)
    finally:
        kill(children)
        timer.cancel()
        if watch:
            memory.stop()
    if failed:
        with open(log, "rb") as output:
            said = output.read()[-2000:].decode(errors="replace")
        raise Failed(f"{shlex.join(failed[0])}: status {failed[1]}\n{said}")
    return cpu, memory.peak_kib / 1024


def kill(children):
    """Ends those of our children that still run, with the process groups they lead."""
    for child in children:
        if child.returncode is None:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


class Memory(threading.Thread):
    """Looks from time to time how much memory processes and their descendants hold.

    `ru_maxrss` would not do: a child inherits this program's own peak from before its `exec`.
    """

    def __init__(self, pids, daemon):
        super().__init__(daemon=True)
        self.pids = pids
        self.helper = daemon
        self.peak_kib = 0
        self.namespace = os.readlink("/proc/self/ns/pid")
        self.done = threading.Event()

    def run(self):
        pause = 0.001
        while not self.done.wait(pause):
            self.look()
            pause = min(pause * 2, LONGEST_PAUSE)

    def look(self):
        # The kernel keeps the first process's own peak, so that none is missed between two looks.
        held = sum(resident(pid, "VmHWM:") for pid in self.pids)
        for pid in self.pids:
            held += sum(resident(other, "VmRSS:") for other in descendants(pid) if self.is_ours(other))
        if self.helper:
            held += resident(self.helper, "VmRSS:")
        self.peak_kib = max(self.peak_kib, held)

    def is_ours(self, pid):
        try:
            return os.readlink(f"/proc/{pid}/ns/pid") == self.namespace
        except OSError:
            return False

    def stop(self):
        self.done.set()
        self.join()


def descendants(pid):
    found, open_ends = [], [pid]
    while open_ends:
        try:
            parent = open_ends.pop()
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children") as file:
                    children = [int(child) for child in file.read().split()]
                found += children
                open_ends += children
        except OSError:
            pass
    return found


def resident(pid, field):
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith(field):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def daemon_cpu(pid):
    """Processor seconds of a process and of those of its children that have ended."""
    if not pid:
        return 0.0
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def peer(path):
    """The process that listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        size = struct.calcsize("3i")
        return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[0]
