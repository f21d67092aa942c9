"""A Debian that is booted in namespaces of its own, and commands in it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT_TIMEOUT_S = 120


class Machine:
    """What systemd-nspawn boots from ROOT; entering waits until it is up."""

    def __init__(self, root: Path, console: Path) -> None:
        self._root = root
        self._console = console
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Machine:
        """Boot."""
        command = (
            "systemd-nspawn",
            *("--register=no", "--keep-unit", "--private-network"),
            *("--quiet", f"--directory={self._root}"),
            # It makes namespaces and filters of its own, as a host does.
            "--capability=all",
            "--system-call-filter=@mount @keyring",
            "--boot",
        )
        with self._console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        try:
            self.wait_for(
                lambda: self._find_init() and self._is_up(),
                "boot",
                timeout_s=_BOOT_TIMEOUT_S,
            )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Power off."""
        self.close()

    def close(self) -> None:
        """End it, however far it came."""
        if self._nspawn is not None:
            if self._pid:
                self.said("systemctl", "poweroff", "--force", "--force")
            try:
                self._nspawn.wait(20)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait(20)

    def command(self, *words: str) -> tuple[str, ...]:
        """Return the command line that runs WORDS in it."""
        enter = ("nsenter", f"--target={self._pid}", "--all", "--")
        return (*enter, "env", "-i", f"PATH={_PATH}", *words)

    def run(self, *words: str, timeout_s: float = 60) -> str:
        """Run WORDS in it; return what it printed. Raises if it fails."""
        done = subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{words}: {done.stdout}{done.stderr}")
        return done.stdout

    def said(self, *words: str, timeout_s: float = 60) -> str:
        """Run WORDS in it; return all it printed, whatever became of it."""
        done = subprocess.run(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return done.stdout

    def wait_for(
        self,
        condition: Callable[[], object],
        what: str,
        *,
        timeout_s: float = 30,
    ) -> None:
        """Return once CONDITION is true; TimeoutError names WHAT."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {what} within {timeout_s:g} s")
            time.sleep(0.1)

    def _find_init(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise RuntimeError(self._console.read_text(errors="replace"))
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._pid = int(children[0]) if children else 0
        return bool(self._pid)

    def _is_up(self) -> bool:
        said = self.said("systemctl", "is-system-running").strip()
        return said in ("running", "degraded")
