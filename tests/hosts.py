"""Separate hosts on one machine: network namespaces, joined by a wire that loses, delays and cuts.

Each host has one interface, a TUN device; its packets arrive in this process, which forwards them. So no
kernel module is needed for delays and losses, which many machines lack.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

_NEW_NETWORK = 0x40000000
_TUN, _NO_HEADER, _SET_INTERFACE = 0x0001, 0x1000, 0x400454CA
_LONGEST_PACKET = 1 << 16
_LOOK_S = 0.05


def why_none() -> str:
    """Return what is missing for separate hosts; empty if nothing is."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces are made by root on Linux"
    if missing := [name for name in ("ip", "unshare") if shutil.which(name) is None]:
        return f"{' and '.join(missing)} is missing (Debian: iproute2, util-linux)"
    try:
        Host("probe", "10.255.0.1").close()
    except OSError as exc:
        return f"no network namespace with a TUN device can be made: {exc}"
    return ""


class Host:
    """A network namespace with an address, and processes that see no others and no other host's name.

    Args:
        name: the host's.
        address: IPv4, in a 24-bit network that contains all hosts.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        # A namespace belongs to a thread: whatever this thread starts, or opens, is in it.
        self._inside = ThreadPoolExecutor(1, f"host-{name}")
        self.processes: list[subprocess.Popen[bytes]] = []
        try:
            self.line = self.call(self._enter)
        except BaseException:
            self._inside.shutdown()
            raise

    def call(self, act: Callable[..., Any], *what: Any) -> Any:
        """Run a function in the host's network."""
        return self._inside.submit(act, *what).result()

    def start(self, words: list[str], environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start a command on this host: alone among its processes, under the host's name."""
        named = f'echo {self.name} > /proc/sys/kernel/hostname; exec "$@"'
        alone = ["unshare", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc", "sh", "-c", named]

        def launch() -> subprocess.Popen[bytes]:
            with log.open("ab") as out:
                command = [*alone, "sh", *words]
                return subprocess.Popen(command, env=dict(environ), stdout=out, stderr=out)

        process: subprocess.Popen[bytes] = self.call(launch)
        self.processes.append(process)
        return process

    def run(self, words: list[str], environ: Mapping[str, str], cwd: Path) -> str:
        """Run a command to its end; return its output."""

        def launch() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                words, env=dict(environ), cwd=cwd, capture_output=True, text=True, timeout=180, check=False
            )

        done = self.call(launch)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def end(self) -> None:
        """Kill its processes without notice, as in a power failure."""
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes = []

    def close(self) -> None:
        """Stop everything; the namespace is removed with its last thread."""
        self.end()
        os.close(self.line)
        self._inside.shutdown()

    def _enter(self) -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_NEW_NETWORK) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        line = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(line, _SET_INTERFACE, struct.pack("16sH", b"wire", _TUN | _NO_HEADER))
        for words in (
            ("addr", "add", f"{self.address}/24", "dev", "wire"),
            ("link", "set", "wire", "up"),
            ("link", "set", "lo", "up"),
        ):
            subprocess.run(["ip", *words], check=True, capture_output=True)
        return line


class Wire:
    """Forwards packets between hosts.

    `loss` is the share of packets lost, `delay_s` the range of their delays, from and to: each draws its own,
    so some overtake others.

    Args:
        hosts: its ends.
        seed: of losses and delays.
    """

    def __init__(
        self,
        hosts: list[Host],
        *,
        loss: float = 0.0,
        delay_s: tuple[float, float] = (0.0, 0.0),
        seed: int = 1,
    ) -> None:
        self.loss, self.delay_s = loss, delay_s
        self.passed = self.lost = 0
        self._rng = random.Random(seed)
        self._ends = {socket.inet_aton(host.address): host.line for host in hosts}
        self._cut: set[int] = set()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)
        self._thread.start()

    def cut(self, host: Host) -> None:
        """Drop everything from or to a host, silently."""
        self._cut.add(host.line)

    def heal(self, host: Host) -> None:
        """Forward everything again."""
        self._cut.discard(host.line)

    def close(self) -> None:
        """Stop forwarding; call it before the hosts are closed."""
        self._closed.set()
        self._thread.join()

    def _carry(self) -> None:
        due: list[tuple[float, int, int, bytes]] = []
        numbers = count()
        while not self._closed.is_set():
            wait_s = min(_LOOK_S, max(0.0, due[0][0] - time.monotonic())) if due else _LOOK_S
            for line in select.select([*self._ends.values()], [], [], wait_s)[0]:
                packet = os.read(line, _LONGEST_PACKET)
                target = self._ends.get(packet[16:20])  # of an IPv4 packet, the destination
                if target is None or {line, target} & self._cut or self._rng.random() < self.loss:
                    self.lost += target is not None
                    continue
                heapq.heappush(
                    due, (time.monotonic() + self._rng.uniform(*self.delay_s), next(numbers), target, packet)
                )
            while due and due[0][0] <= time.monotonic():
                _, _, target, packet = heapq.heappop(due)
                self.passed += 1
                with contextlib.suppress(OSError):
                    os.write(target, packet)
