"""A Debian that is booted in namespaces of its own, and commands in it.

    with root.copy(base) as folder, Machine(folder, console) as machine:
        machine.run("systemctl", "is-system-running")

Its network is private: nothing in it reaches another host, nor is it reached.
What is to talk to it goes in by `command()`, which is how `run()` does it:
a connection plugin puts its command behind those words; ssh takes

    ProxyCommand=nsenter --target=PID --all -- /usr/sbin/sshd -i

with PID from `Machine.pid`, and needs neither an address nor a port.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT_TIMEOUT_S = 120
_REBOOTS = 133  # systemd-nspawn's exit code, where it is to be called again


class Machine:
    """What systemd-nspawn boots from ROOT; entering waits until it is up."""

    def __init__(self, root: Path, console: Path) -> None:
        self.root = root
        self._console = console
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def __enter__(self) -> Machine:
        """Boot."""
        self.boot()
        return self

    def __exit__(self, *_: object) -> None:
        """Power off."""
        self.close()

    @property
    def pid(self) -> int:
        """Its process 1, as this host sees it; another after a reboot."""
        return self._pid

    def boot(self) -> None:
        """Start it; return when systemd has started all it is to start."""
        command = (
            # IPAddressDeny= needs cgroup v2, as hosts have it, and bpf.
            *("env", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1", "systemd-nspawn"),
            *("--register=no", "--keep-unit", "--private-network"),
            *("--quiet", f"--directory={self.root}"),
            # It makes namespaces and filters of its own, as a host does, and
            # the fleet borrows the listeners of Neutron's haproxies.
            "--capability=all",
            "--system-call-filter=@mount @keyring pidfd_getfd bpf",
            "--boot",
        )
        with self._console.open("ab") as console:
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

    def reboot(self) -> None:
        """Have it reboot as a host does: all is stopped, / is kept."""
        assert self._nspawn is not None
        self.said("systemctl", "reboot")
        code = self._nspawn.wait(_BOOT_TIMEOUT_S)
        if code != _REBOOTS:
            raise RuntimeError(f"no reboot, but {code}")
        self.boot()

    def close(self) -> None:
        """End it, however far it came."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
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

    def run(self, *words: str, given: str = "", timeout_s: float = 60) -> str:
        """Run WORDS in it, GIVEN as input; return what it printed.

        Raises RuntimeError with all it said if it fails.
        """
        done = subprocess.run(
            self.command(*words),
            input=given,
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
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return done.stdout

    def write(
        self, path: str, text: str, *, mode: str = "0644", group: str = "root"
    ) -> None:
        """Make the file PATH, root's, of TEXT; its folders as well."""
        access = (f"--mode={mode}", f"--group={group}")
        self.run("install", "-D", *access, "/dev/stdin", path, given=text)

    def wait_for(
        self,
        condition: Callable[[], object],
        what: str,
        *,
        timeout_s: float = 90,
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
