"""One boot: cloud-init's first two stages inside an instance's namespace."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from sandbox import Instance
from sandbox.namespaces import NETNS_FOLDER
from sandbox.nova_documents import public_key

_ENTER = Path(__file__).with_name("enter")
_OWN = ("--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child")
# Releases after 25.1 ask until they are answered: there is no limit.
_LONGEST_S = 240.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a boot; times are Unix times."""

    found: bool  # its datasource, and its owner's key
    begun: float
    local: float  # the end of the local stage
    ended: float
    log: str  # cloud-init's

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.begun


class Boot:
    """A boot of the root LOWER as INSTANCE; start it, then wait.

    LOWER are the lower layers of an overlay. SCRATCH keeps what is written
    until the boot is over.
    """

    def __init__(self, instance: Instance, lower: str, scratch: Path) -> None:
        self._instance = instance
        self._lower = lower
        self._folder = Path(tempfile.mkdtemp(prefix="boot-", dir=scratch))
        self._written = self._folder / "written"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, delay_s: float = 0.0) -> None:
        """Start it; cloud-init starts DELAY_S later."""
        network = NETNS_FOLDER / self._instance.namespace
        command = ("nsenter", f"--net={network}", "unshare", *_OWN)
        words = (self._lower, str(self._folder), f"{delay_s:.2f}")
        with (self._folder / "console").open("wb") as console:
            self._process = subprocess.Popen(
                (*command, "--", str(_ENTER), *words),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def wait(self) -> Outcome:
        """Return what became of it, and remove what it wrote."""
        assert self._process is not None
        try:
            self._process.wait(_LONGEST_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        try:
            return self._outcome()
        finally:
            shutil.rmtree(self._folder)

    def _outcome(self) -> Outcome:
        def text(path: Path) -> str:
            return path.read_text(errors="replace") if path.exists() else ""

        times = dict(
            line.split() for line in text(self._written / "times").splitlines()
        )
        console = text(self._folder / "console")
        if "begun" not in times:
            raise RuntimeError(f"this boot did not begin: {console[-2000:]}")
        log = text(self._written / "var/log/cloud-init.log")
        begun = float(times["begun"])
        return Outcome(
            found="ended" in times and self._has_source() and self._has_key(),
            begun=begun,
            local=float(times.get("local", begun)),
            ended=float(times.get("ended", time.time())),
            log=f"{log}\n{console}",
        )

    def _has_source(self) -> bool:
        """Tell whether cloud-init found OpenStack's datasource."""
        cloud = self._written / "var/lib/cloud/instances"
        source = cloud / self._instance.instance_id / "datasource"
        return source.exists() and "OpenStack" in source.read_text()

    def _has_key(self) -> bool:
        """Tell whether the default user has the key that Nova has."""
        key = public_key(self._instance.instance_id)
        files = self._written.glob("home/*/.ssh/authorized_keys")
        return any(key in file.read_text().splitlines() for file in files)
