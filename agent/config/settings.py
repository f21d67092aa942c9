"""What the operator asked for, as frozen values.

`options.load` makes them from the configuration files; everything else in
the agent takes them as they are: checked, converted, with their units.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True, slots=True)
class NovaEndpoint:
    """One server of Nova's metadata API."""

    host: str  # a name, an IPv4 or IPv6 address; never in brackets
    port: int


@dataclasses.dataclass(frozen=True, slots=True)
class Nova:
    """How the gateway reaches Nova's metadata API."""

    endpoints: tuple[NovaEndpoint, ...]  # at least one, none twice
    protocol: str  # "http" or "https"
    ca_cert: Path | None  # None: the system's
    insecure: bool  # https without looking at the certificate
    client_cert: Path | None
    client_key: Path | None  # given exactly when client_cert is


@dataclasses.dataclass(frozen=True, slots=True)
class Timeouts:
    """haproxy's timeouts of one network's proxy."""

    connect_s: int
    client_s: int
    server_s: int
    http_request_s: int
    http_keep_alive_s: int


@dataclasses.dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests an address may make, in two windows."""

    enabled: bool
    ip_versions: tuple[int, ...]  # 4, 6 or both, sorted
    base_window_s: int
    base_requests: int
    burst_window_s: int
    burst_requests: int


@dataclasses.dataclass(frozen=True, slots=True)
class FairShare:
    """What one instance may take; 0 is no limit."""

    connections: int  # to its network's haproxy, at a time
    uploads: int  # requests with a long body, at a time
    greedy_rate: int  # requests a second above which it is greedy
    greedy_requests: int  # at a time, of all that are greedy; 1 or more
    logged_rate: int  # requests a second above which none is logged


@dataclasses.dataclass(frozen=True, slots=True)
class Vswitch:
    """The connection to this host's Open vSwitch database."""

    connection: str
    timeout_s: int


@dataclasses.dataclass(frozen=True, slots=True)
class Southbound:
    """The connection to OVN's Southbound database."""

    remotes: tuple[str, ...]  # at least one
    private_key: Path | None
    certificate: Path | None  # given exactly when private_key is
    ca_cert: Path | None
    timeout_s: int
    retry_max_interval_s: int
    probe_interval_ms: int  # 0: no probes
    log_level: str  # of the OVSDB library: "INFO", ...


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Everything the agent is told; `options.load` is where it is made."""

    state_path: Path
    proxy_socket: Path
    proxy_gid: int | None  # group of the gateway's socket; None: the agent's
    socket_mode: str  # "deduce", "user", "group" or "all"
    gateway_threads: int
    backlog: int  # connections
    nova: Nova
    shared_secret: str = dataclasses.field(repr=False)
    pids_path: Path
    agent_down_time_s: int
    vswitch: Vswitch
    southbound: Southbound
    root_helper: str | None  # None: our own sudo and rootwrap
    helper_command: str | None  # [privsep] helper_command
    timeouts: Timeouts
    rate_limit: RateLimit
    fair_share: FairShare
    status_socket: Path
    reconcile_workers: int
    resync_interval_s: int
    resolve_interval_s: int
    privileged_config: Path
    service_user: str  # "": state_path's owner, or who there is of our own
    chassis_name: str  # "": as ovn-controller finds it without -n
    warnings: tuple[str, ...] = ()  # for the log, once there is one

    def files_in_use(self) -> tuple[Path, ...]:
        """Return the keys and certificates that these settings make use of."""
        used: list[Path | None] = []
        if self.uses_ssl:
            southbound = self.southbound
            used += [southbound.private_key, southbound.certificate]
            used += [southbound.ca_cert]
        if self.nova.protocol == "https":
            used += [self.nova.client_cert, self.nova.client_key]
            used += [] if self.nova.insecure else [self.nova.ca_cert]
        return tuple(path for path in used if path is not None)

    @property
    def uses_ssl(self) -> bool:
        """Whether one of the databases is reached by TLS."""
        remotes = (*self.southbound.remotes, self.vswitch.connection)
        return any(remote.startswith("ssl:") for remote in remotes)
