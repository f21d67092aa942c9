"""One daemon as our child: start, stop, kill, wait until it listens."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .waiting import wait_for


class CommandError(Exception):
    """A command that failed, with what it said."""


def run(*command: str, timeout_s: float = 60.0, stdin: str = "") -> str:
    """Run COMMAND and return its stdout; CommandError says its stderr."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise CommandError(
            f"{' '.join(command)[:300]}: exit code {done.returncode}: "
            f"{done.stderr.strip()}"
        )
    return done.stdout


def succeeds(*command: str) -> bool:
    """Run COMMAND; tell whether it did what it is for."""
    try:
        run(*command)
    except CommandError:
        return False
    return True


def accepts(path: Path) -> bool:
    """Tell whether a server listens on the unix socket PATH."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True


@dataclasses.dataclass(slots=True)
class Daemon:
    """A program in the foreground, in a session of its own.

    A program that is MONITORED has a parent, our child, that starts it again
    when it crashes, as its package's service does.
    """

    name: str
    command: tuple[str, ...]
    output: Path
    ready: Path | None = None  # unix socket that shows it is up
    environment: Mapping[str, str] | None = None
    monitored: bool = False
    process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the program runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The process id; RuntimeError when it does not run."""
        if self.process is None or not self.running:
            raise RuntimeError(f"{self.name} does not run")
        return self.process.pid

    def start(self) -> None:
        """Start the program and wait until it listens."""
        if self.running:
            return
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment,
                start_new_session=True,
            )
        if self.ready is not None:
            wait_for(
                self._listens, timeout_s=60, what=f"socket of {self.name}"
            )

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Ask the program to end, and wait; kill it after TIMEOUT_S."""
        if self.process is None:
            return
        self._send(signal.SIGTERM)
        self._send(signal.SIGCONT)
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def wait(self, *, timeout_s: float = 60.0) -> None:
        """Wait for the program to end by itself."""
        if self.process is not None:
            self.process.wait(timeout_s)
            self.process = None

    def kill(self) -> None:
        """End the program with SIGKILL, and wait."""
        if self.process is not None:
            self._send(signal.SIGKILL)
            self.process.wait(20)
            self.process = None

    def signal(self, number: int) -> None:
        """Send the program a signal, SIGSTOP for one."""
        if not self.running:
            raise RuntimeError(f"{self.name} does not run")
        self._send(number)

    def _send(self, number: int) -> None:
        """Send a signal, to its monitor too; nothing if it has ended."""
        if self.process is not None and self.process.poll() is None:
            # A group of its own, for it has a session of its own.
            send = os.killpg if self.monitored else os.kill
            send(self.process.pid, number)

    def _listens(self) -> bool:
        if not self.running:
            tail = self.output.read_text(errors="replace")[-1000:]
            raise RuntimeError(f"{self.name} ended at once: {tail}")
        return self.ready is None or accepts(self.ready)
