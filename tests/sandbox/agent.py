"""Run the metadata agent as a deployment does, and look at its processes."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest import mock

from ovn_metadata.agent.commands import status as agent_status

from . import host, ovn
from .daemons import Daemon
from .nova import Nova
from .processes import Process, processes, send_signal
from .waiting import wait_for

CONFIG = host.CONFIG_FOLDER / "neutron_ovn_metadata_agent.ini"
NEUTRON_CONFIG = host.CONFIG_FOLDER / "neutron.conf"
LOG = host.LOG_FOLDER / "ovn-metadata-agent.log"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Options = Mapping[tuple[str, str], str]
# The agent's own defaults, in place of `_defaults`.
SPARE: Options = {
    ("ovn_metadata_agent", "spare_networks"): "64",
    ("ovn_metadata_agent", "network_keep_time"): "120",
}
# Seconds for an answer: on a busy machine an agent that is well may take more
# than the 0.7 of agent-status, and one look would then take it for one that
# hangs.
_PATIENCE_S = 10.0
# Characters: that it logged, and that it printed.
Mark = tuple[int, int]


class Agent:
    """The agent's configuration and process; entering starts it."""

    def __init__(
        self,
        folder: Path,
        nova: Nova | None = None,
        *,
        options: Options | None = None,
        prefix: Path = Path(sys.prefix),
        checkout: Path = host.REPOSITORY,
        neutron_conf: Options | None = None,
    ) -> None:
        self._nova = nova
        self._prefix = prefix
        self._checkout = checkout  # it has the root-owned files of PREFIX
        self.options = dict(options or {})
        self.neutron_conf = dict(neutron_conf or {})
        self._daemon = Daemon(
            name="ovn-metadata-agent",
            command=self.command(),
            output=folder / "agent.out",
            environment={
                "PATH": f"{prefix / 'bin'}:{_PATH}",
                "LANG": "C.UTF-8",
                "HOME": str(host.HOME),
            },
        )

    def __enter__(self) -> Agent:
        """Start the agent and wait until it is ready."""
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the agent and what it left running."""
        self.close()

    def close(self) -> None:
        """End the agent and its fleet."""
        self.stop()
        self.stop_fleet()

    def command(self) -> tuple[str, ...]:
        """Return the command line, as the service user."""
        user = host.SERVICE_USER
        return (
            *("setpriv", f"--reuid={user}", f"--regid={user}"),
            "--init-groups",
            str(self._prefix / "bin" / "ovn-metadata-agent"),
            *self.config_arguments(),
            *("--log-file", str(LOG)),
        )

    @staticmethod
    def config_arguments() -> tuple[str, ...]:
        """Return the arguments that name the configuration files."""
        files = (NEUTRON_CONFIG, CONFIG)
        return tuple(arg for f in files for arg in ("--config-file", str(f)))

    def configure(self, options: Options | None = None) -> None:
        """Write both files; OPTIONS are kept for the next time as well."""
        self.options.update(options or {})
        values = {**self._defaults(), **self.options}
        write_ini(CONFIG, values)
        write_ini(
            NEUTRON_CONFIG,
            {
                ("DEFAULT", "core_plugin"): "ml2",
                ("DEFAULT", "host"): ovn.HOSTNAME,
                ("DEFAULT", "state_path"): str(host.HOME),
                ("oslo_concurrency", "lock_path"): str(host.HOME / "tmp"),
                **self.neutron_conf,
            },
        )

    def start(self) -> None:
        """Write the configuration, install the privileges, start."""
        self.configure()
        if (self._checkout / "rootwrap" / "rootwrap.conf").exists():
            host.install_privileges(self._prefix, source=self._checkout)
        self._daemon.start()

    def stop(self) -> None:
        """End the agent with SIGTERM, and wait."""
        self._daemon.stop()

    def kill9(self) -> None:
        """End the agent with SIGKILL, and wait."""
        self._daemon.kill()

    def reload(self) -> None:
        """Send SIGHUP."""
        self._daemon.signal(signal.SIGHUP)

    def reload_and_wait(self) -> None:
        """Send SIGHUP; return once the log has that all is read again."""
        mark = self.mark()
        self.reload()
        wait_for(
            lambda: "configuration reloaded" in self.log(mark),
            timeout_s=60,
            what="the reload",
        )

    @property
    def log_file(self) -> Path:
        """The file that the agent logs to."""
        return LOG

    @property
    def pid(self) -> int:
        """The process id of the agent."""
        return self._daemon.pid

    @property
    def running(self) -> bool:
        """Whether the agent runs."""
        return self._daemon.running

    def log(self, since: Mark = (0, 0)) -> str:
        """Return what it logged, and what it printed, SINCE then."""
        said = zip(self._said(), since, strict=True)
        return "".join(text[start:] for text, start in said)

    def mark(self) -> Mark:
        """Return how far it is, for `log` to begin there."""
        logged, printed = self._said()
        return len(logged), len(printed)

    def _said(self) -> tuple[str, str]:
        def text(file: Path) -> str:
            return file.read_text(errors="replace") if file.exists() else ""

        return text(LOG), text(self._daemon.output)

    def status(
        self, *args: str, patience_s: float = _PATIENCE_S
    ) -> subprocess.CompletedProcess[str]:
        """Run agent-status with the agent's configuration and ARGS.

        It waits PATIENCE_S for an answer, which is longer than users wait.

        In this process: tests wait for what it prints, and to start Python
        each time was a third of their CPU time. Another release's is a
        process: its modules have the names of ours.
        """
        command = self._status_command(*args)
        if self._prefix == Path(sys.prefix):
            return _call(command, patience_s)
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False
        )

    def status_to(
        self, output: int, *args: str
    ) -> subprocess.CompletedProcess[str]:
        """Run agent-status with ARGS; it writes to the descriptor OUTPUT."""
        return subprocess.run(
            self._status_command(*args),
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    def _status_command(self, *args: str) -> tuple[str, ...]:
        program = str(self._prefix / "bin" / "agent-status")
        return (program, *self.config_arguments(), *args)

    def wait_ready(self, *, timeout_s: float = 120.0) -> None:
        """Wait until agent-status is content; tell the log if it never is."""

        def ready() -> bool:
            if not self.running:
                raise RuntimeError(f"the agent ended: {self.log()[-3000:]}")
            return self.status().returncode in (0, 5)  # 5: with problems

        try:
            wait_for(
                ready,
                timeout_s=timeout_s,
                what="agent-status with exit code 0 or 5",
            )
        except TimeoutError as error:
            said = self.status()
            raise TimeoutError(
                f"{error}\n{said.stdout}{said.stderr}\n{self.log()[-3000:]}"
            ) from None

    def kill(self) -> None:
        """End all there is of it with SIGKILL, in no order."""
        self.kill9()

        def killed() -> bool:
            left = processes()
            for process in left:  # one may have forked since the last look
                send_signal(process.pid, signal.SIGKILL)
            return not left

        wait_for(killed, timeout_s=60, what="end of all processes")

    def stop_fleet(self) -> None:
        """End supervisord, its haproxies and the privsep daemon."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in processes():
                if process.kind in ("supervisord", "privsep"):
                    send_signal(process.pid, number)
            try:
                wait_for(
                    lambda: not processes("supervisord", "privsep"),
                    timeout_s=15,
                    what="end of supervisord",
                )
                break
            except TimeoutError:
                continue

        def killed() -> bool:
            left = processes("haproxy")
            for process in left:  # one may have forked since the last look
                send_signal(process.pid, signal.SIGKILL)
            return not left

        wait_for(killed, timeout_s=60, what="haproxies' end")

    def processes(self, *kinds: str) -> list[Process]:
        """Return what runs of ours, of KINDS if given."""
        return processes(*kinds)

    def _defaults(self) -> Options:
        nova = self._nova
        return {
            ("DEFAULT", "nova_metadata_host"): nova.address
            if nova
            else "127.0.0.1",
            ("DEFAULT", "nova_metadata_port"): str(
                nova.port if nova else 8775
            ),
            ("DEFAULT", "metadata_proxy_shared_secret"): nova.secret
            if nova
            else "",
            ("DEFAULT", "state_path"): str(host.HOME),
            # Tests see at once what a port that is unplugged leaves behind.
            ("ovn_metadata_agent", "spare_networks"): "0",
            ("ovn_metadata_agent", "network_keep_time"): "0",
            ("ovs", "ovsdb_connection"): ovn.OVS_REMOTE,
            ("ovn", "ovn_sb_connection"): ovn.SB_REMOTE,
        }


def _call(
    command: Sequence[str], patience_s: float
) -> subprocess.CompletedProcess[str]:
    """Do what COMMAND, agent-status and its arguments, does."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        mock.patch.object(agent_status, "_PATIENCE_S", patience_s),
    ):
        try:
            code = agent_status.main([*command[1:]])
        except SystemExit as ended:  # argparse: --help, wrong usage
            code = int(ended.code or 0)
    said = output.getvalue(), errors.getvalue()
    return subprocess.CompletedProcess(command, code, *said)


def write_ini(path: Path, values: Options) -> None:
    """Write VALUES to PATH, for root to change and the agent to read."""
    sections: dict[str, list[str]] = {}
    for (section, name), value in values.items():
        sections.setdefault(section, []).append(f"{name} = {value}")
    text = "\n\n".join(
        "\n".join((f"[{section}]", *lines))
        for section, lines in sections.items()
    )
    path.write_text(text + "\n")
    os.chown(path, 0, host.ids(host.SERVICE_USER)[1])
    path.chmod(0o640)
