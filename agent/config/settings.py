"""Define every option once, as a field of `Settings`.

Names, sections and defaults are those of Neutron's agent. Options that it does
not have are in [ovn_metadata_agent]. The text below a field is its help: `make
options` writes the sample file and docs/reference/options.md from it.
`options.load` fills the fields with checked and converted values.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import values
from .per_project import PerProject, per_project
from .values import COUNT, FILE, FLAG, SECONDS, SECONDS_OR_0, SHARE, Value

MAX_GATEWAY_THREADS = 64  # haproxy's nbthread
MAX_HOP_LIMIT = 64  # Linux's own
# Counted in cloud-init 26.2 and in Nova: twice /openstack, 5 documents, and 21
# of the EC2 tree. A test holds the two help texts that name the number to it.
BOOT_REQUESTS = 28


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """How an operator sets a field."""

    section: str
    name: str
    value: Value
    default: str
    old_name: str = ""
    secret: bool = False
    restart: bool = False  # a change needs a restart, not only a reload

    def __str__(self) -> str:
        return f"[{self.section}] {self.name}"


def _option(
    section: str, name: str, value: Value, default: str = "", **more: Any
) -> Any:
    """Return the field that the option NAME in SECTION sets."""
    option = Option(section, name, value, default, **more)
    return dataclasses.field(
        repr=not option.secret, metadata={"option": option}
    )


_main = functools.partial(_option, "DEFAULT")
_ovs = functools.partial(_option, "ovs", restart=True)
_ovn = functools.partial(_option, "ovn", restart=True)
_agent = functools.partial(_option, "AGENT", restart=True)
_privsep = functools.partial(_option, "privsep", restart=True)
_limit = functools.partial(_option, "metadata_rate_limiting")
_haproxy = functools.partial(_option, "metadata_haproxy")
_own = functools.partial(_option, "ovn_metadata_agent")


@dataclasses.dataclass(frozen=True, slots=True)
class NovaServer:
    """One server of Nova's metadata API."""

    host: str  # a name, an IPv4 or IPv6 address; never in brackets
    port: int
    name: str = ""  # the name in its certificate; "" for any


@dataclasses.dataclass(frozen=True, slots=True)
class Nova:
    """How the gateway reaches Nova's metadata API."""

    hosts: tuple[tuple[str, int | None], ...] = _main(
        "nova_metadata_host",
        values.HOSTS,
        "127.0.0.1",
        old_name="nova_metadata_ip",
    )
    """One or several servers of Nova's metadata API. With several, a request
    that cannot be delivered to one goes to another. All get the name of the
    first one in the header Host."""
    port: int = _main("nova_metadata_port", values.PORT, "8775")
    """The port of the servers that are given without a port."""
    protocol: str = _main(
        "nova_metadata_protocol", values.choice("http", "https"), "http"
    )
    """The protocol between the gateway and Nova."""
    ca_cert: Path | None = _main("auth_ca_cert", FILE)
    """For https: a PEM file with the authorities that may have signed Nova's
    certificate, or a folder of such files, named by their hash as "openssl
    rehash" does. Empty: what REQUESTS_CA_BUNDLE in the agent's environment
    names, a file or a folder too, or else the system's authorities."""
    insecure: bool = _main("nova_metadata_insecure", FLAG, "false")
    """For https: whether every certificate of Nova is accepted, unchecked."""
    client_cert: Path | None = _main("nova_client_cert", FILE)
    """For https: a PEM file with the certificate that the gateway presents to
    Nova. Needs nova_client_priv_key."""
    client_key: Path | None = _main("nova_client_priv_key", FILE)
    """A PEM file with the private key of nova_client_cert."""

    @property
    def authorities(self) -> tuple[Path, ...]:
        """The files of ca_cert; a folder itself if none in it has a hash."""
        if self.ca_cert is None:
            return ()
        hashed = sorted(self.ca_cert.glob("????????.[0-9]"))
        return tuple(hashed) or (self.ca_cert,)

    @property
    def endpoints(self) -> tuple[NovaServer, ...]:
        """The servers with their ports: at least one, none twice."""
        found: dict[NovaServer, None] = {}
        for host, port in self.hosts:
            name = "" if values.is_address(host) else host.rstrip(".")
            found[NovaServer(host, port or self.port, name)] = None
        return tuple(found)

    @property
    def authority(self) -> str:
        """The header Host, as Neutron's agent sends it to the first server."""
        first = self.endpoints[0]
        host = first.host.lower().rstrip(".")
        host = f"[{host}]" if ":" in host else host
        is_default = first.port == {"http": 80, "https": 443}[self.protocol]
        return host if is_default else f"{host}:{first.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Timeouts:
    """haproxy's timeouts of one network's proxy."""

    connect_s: int = _haproxy("timeout_connect", SECONDS, "30")
    """Seconds to connect to the gateway."""
    client_s: int = _haproxy("timeout_client", SECONDS, "32")
    """Seconds that an instance may be silent."""
    server_s: int = _haproxy("timeout_server", SECONDS, "32")
    """Seconds that the gateway may be silent."""
    http_request_s: int = _haproxy("timeout_http_request", SECONDS, "30")
    """Seconds for a whole request to arrive."""
    http_keep_alive_s: int = _haproxy("timeout_http_keep_alive", SECONDS, "30")
    """Seconds to wait for the next request on a connection."""


@dataclasses.dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests an address may make, in two windows."""

    enabled: bool = _limit("rate_limit_enabled", FLAG, "false")
    """Whether an address that sends too many requests is answered 429, with
    Retry-After. A refused request does not count."""
    ip_versions: tuple[int, ...] = _limit(
        "ip_versions", values.IP_VERSIONS, "4"
    )
    """The IP versions that are limited. Each is counted on its own."""
    base_window_s: int = _limit("base_window_duration", SECONDS, "10")
    """Length of the long window, in seconds."""
    base_requests: int = _limit("base_query_rate_limit", COUNT, "10")
    """Requests that an address may send in the long window. One boot sends 28
    (cloud-init 26.2): with fewer, as by default, an enabled limit is reported
    as a warning, because instances may start without their metadata."""
    burst_window_s: int = _limit("burst_window_duration", SECONDS, "10")
    """Length of the window for bursts, in seconds."""
    burst_requests: int = _limit("burst_query_rate_limit", COUNT, "10")
    """Requests that an address may send in the window for bursts. One boot
    sends 28, as above."""


@dataclasses.dataclass(frozen=True, slots=True)
class FairShare:
    """What one instance may take; 0 is no limit."""

    connections: int = _own("instance_connections", SHARE, "256")
    """Connections that an instance may have at the same time; more are reset.
    An address that belongs to no instance may have half of that, and all such
    addresses of a network together twice as many. 0: no limit."""
    uploads: int = _own("instance_uploads", SHARE, "2")
    """Uploads that an instance may send at the same time: requests with a body
    of more than 8 KiB. More are answered 429. All instances together may send
    four times as many. 0: no limit."""
    greedy_rate: int = _own("greedy_rate", SHARE, "50")
    """An instance is greedy if it sends more requests per second than this for
    10 s, or has more open than half of greedy_requests, which limits it while
    others send some too (in the last minute). 0: no instance is greedy."""
    greedy_requests: int = _own(
        "greedy_requests", values.whole(1, values.MAX_SHARE), "16"
    )
    """Requests that all greedy instances together may have at Nova at the same
    time, and as many again that are not a plain GET. More of their requests
    wait for up to 9 s, and are then answered 503. Several servers of Nova
    share this number."""
    logged_rate: int = _own("logged_rate", SHARE, "50")
    """The haproxies do not log the requests of an instance that sends more
    requests per second than this, for 10 s. A request that is not HTTP, or not
    complete, is counted but never logged. 0: no limit."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shield:
    """What keeps metadata from those who trick an instance into asking."""

    forwarded: PerProject[str] = _own(
        "refuse_forwarded",
        per_project(values.choice("off", "report", "enforce")),
        "off",
    )
    """Whether a request that came through a proxy is refused with 403: one
    with Via, X-Real-IP, or a header with "forwarded" or "x-envoy-" in its
    name. report: it is counted, and answered."""
    hop_limit: PerProject[int] = _own(
        "hop_limit", per_project(values.whole(1, MAX_HOP_LIMIT)), "64"
    )
    """The hop limit (TTL) with which answers leave. With 1 they reach the
    instance, but no container or network behind it. A network whose instances
    have several values gets the largest of them."""
    tokens: PerProject[str] = _own(
        "tokens",
        per_project(values.choice("off", "optional", "required")),
        "off",
    )
    """Whether instances get session tokens as from AWS (IMDSv2). optional: a
    request without a token is answered, and counted if "required" would refuse
    it. required: it is refused with 401; below /openstack only if boot_window
    is set. Needs metadata_proxy_shared_secret."""
    boot_window_s: int = _own("boot_window", SECONDS_OR_0, "0")
    """Seconds after an instance's port came up in which it needs no token. 0:
    it always needs one for EC2's paths, and never for those below
    /openstack, whose clients know no token."""


@dataclasses.dataclass(frozen=True, slots=True)
class SpareNetworks:
    """The networks that are ready without a port plugged here."""

    limit: int = _own("spare_networks", values.whole(0, 4096), "64")
    """At most this many networks are ready on this host without a bound port,
    the newest ones. Either Neutron wants a port to be bound here (for up to 10
    minutes), or the last one has gone (see network_keep_time). Each of them
    needs 3 MiB of memory. 0: a network is ready only after its first port is
    bound, and is removed with its last one."""
    keep_s: int = _own("network_keep_time", SECONDS_OR_0, "120")
    """Seconds for which a network is kept after its last port has gone. A port
    that comes back in this time finds it ready. Meanwhile no address is served
    there. 0: it is removed at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Vswitch:
    """The connection to this host's Open vSwitch database."""

    connection: str = _ovs(
        "ovsdb_connection",
        values.REMOTE,
        "unix:/usr/local/var/run/openvswitch/db.sock",
    )
    """This host's Open vSwitch database; ssl uses the certificates of [ovn].
    The default is Neutron's. Packages of Open vSwitch have the socket
    unix:/run/openvswitch/db.sock. If only root may connect to it, run
    "ovs-vsctl set-manager ptcp:6640:127.0.0.1" and set tcp:127.0.0.1:6640
    here."""
    timeout_s: int = _ovs("ovsdb_connection_timeout", SECONDS, "180")
    """Seconds to wait for the connection, and for a transaction."""


@dataclasses.dataclass(frozen=True, slots=True)
class Southbound:
    """The connection to OVN's Southbound database."""

    remotes: tuple[str, ...] = _ovn(
        "ovn_sb_connection", values.REMOTES, "tcp:127.0.0.1:6642"
    )
    """OVN's Southbound database: all servers of the cluster, or relays. HOST
    is an address or a name, which is looked up for each connection."""
    private_key: Path | None = _ovn("ovn_sb_private_key", FILE)
    """For ssl: a PEM file with our private key."""
    certificate: Path | None = _ovn("ovn_sb_certificate", FILE)
    """For ssl: a PEM file with our certificate."""
    ca_cert: Path | None = _ovn("ovn_sb_ca_cert", FILE)
    """For ssl: a PEM file with the authority that signed the server's
    certificate."""
    timeout_s: int = _ovn("ovsdb_connection_timeout", SECONDS, "180")
    """Seconds to wait for the connection, and for a transaction."""
    # With Neutron's 180 a chassis reconnects minutes after an outage. 8 is the
    # library's default.
    retry_max_interval_s: int = _ovn("ovsdb_retry_max_interval", SECONDS, "8")
    """The longest time between two attempts to connect, in seconds. (Neutron:
    180.)"""
    # With Neutron's 60000 a server that hangs, say one of a cluster, is left
    # after two minutes. ovn-controller's own is 5 s.
    probe_interval_ms: int = _ovn(
        "ovsdb_probe_interval", values.whole(0, values.MAX_INT), "8000"
    )
    """Milliseconds of silence after which the server is probed. If it does not
    answer for as long again, it is left. 0: never. Raise it for a database so
    large that its server is busy for seconds. A server that loses its power or
    its address is noticed after 15 s, whatever the value. (Neutron: 60000.)"""
    log_level: str = _ovn(
        "ovsdb_log_level",
        values.choice("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"),
        "INFO",
        restart=False,
    )
    """The level of the OVSDB library's messages."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the operator configures."""

    nova: Nova
    vswitch: Vswitch
    southbound: Southbound
    timeouts: Timeouts
    rate_limit: RateLimit
    fair_share: FairShare
    shield: Shield
    spare_networks: SpareNetworks
    state_path: Path = _main(
        "state_path", values.STATE_PATH, "/var/lib/neutron", restart=True
    )
    """The agent's folder, with its sockets and the links to PID files. The
    agent's user must be able to write in it."""
    shared_secret: str = _main(
        "metadata_proxy_shared_secret", values.TEXT, secret=True
    )
    """The same secret as [neutron] metadata_proxy_shared_secret in nova.conf,
    where service_metadata_proxy must be true. It signs each instance's
    identity and never leaves the agent. While it is empty, any client that
    reaches Nova's metadata API can act as any instance, and the agent logs a
    warning."""
    proxy_socket: Path = _main(
        "metadata_proxy_socket",
        values.SOCKET,
        "$state_path/metadata_proxy",
        restart=True,
    )
    """The path of the gateway's socket: a link to the socket itself."""
    proxy_gid: int | None = _main("metadata_proxy_group", values.GROUP)
    """The group of the gateway's socket. Empty: the agent's group."""
    socket_mode: str = _main(
        "metadata_proxy_socket_mode",
        values.choice("deduce", "user", "group", "all"),
        "deduce",
    )
    """Who may connect to the gateway's socket: user (mode 0644: haproxy's
    user, who owns it), group (0664: its group too) or all (0666). deduce means
    group if that is the agent's group, else all. The networks' haproxies do
    not use this socket. A request without an identity is answered 404, and
    Nova refuses one that is not signed with its secret."""
    workers: int | None = _main(
        "metadata_workers", values.optional(values.whole(0))
    )
    """Threads of the gateway. 0 or empty: one, which is enough for 10,000
    requests per second. At most 64 are used."""
    backlog: int = _main("metadata_backlog", COUNT, "4096")
    """Connections that may wait on the gateway's socket."""
    pids_path: Path = _main(
        "external_pids",
        values.FOLDER,
        "$state_path/external/pids",
        restart=True,
    )
    """Folder with links to the haproxies' PID files, under Neutron's names."""
    agent_down_time_s: int = _main("agent_down_time", SECONDS, "75")
    """Seconds after which Neutron's server reports a silent agent as dead; the
    same as in its neutron.conf. It limits how long a heartbeat may be
    delayed."""
    root_helper: str | None = _agent("root_helper", values.COMMAND)
    """The command that starts the privileged daemon as root, to be followed by
    "privsep-helper". Empty, or Neutron's default "sudo": sudo with
    ovn-metadata-rootwrap, as rootwrap/sudoers.d allows it. Not used if the
    systemd unit ovn-metadata-privsep.socket has made
    /run/ovn-metadata-privsep.sock, or if the agent is started as root."""
    helper_command: str | None = _privsep("helper_command", values.COMMAND)
    """The whole command that starts the privileged daemon. It replaces [AGENT]
    root_helper. The daemon's other options are in a file that only root can
    write: see privileged_config."""
    status_socket: Path = _own(
        "status_socket",
        values.SOCKET,
        "$state_path/ovn-metadata-agent.sock",
        restart=True,
    )
    """The socket from which agent-status reads the agent's status."""
    metrics_socket: Path | None = _own(
        "metrics_socket",
        values.MAYBE_SOCKET,
        "$state_path/ovn-metadata-agent-metrics.sock",
        restart=True,
    )
    """The socket on which Prometheus gets the metrics: GET /metrics. The
    agent's group may connect to it. Empty: there is none."""
    metrics_address: tuple[str, int] | None = _own(
        "metrics_address", values.MAYBE_LISTENER, restart=True
    )
    """An address and a port of this host on which Prometheus gets the metrics
    too, like 192.0.2.7:9755. Everybody who can connect there can read them;
    there is no TLS and no password. Empty: there is none."""
    gateway_metrics: bool = _own("gateway_metrics", FLAG, "false")
    """Whether haproxy's own exporter answers in the gateway, on the socket
    work/gateway/metrics.sock below the fleet's run folder. Only root and
    haproxy's user may connect to it."""
    reconcile_workers: int = _own(
        "reconcile_workers", values.whole(1, 256), "16", restart=True
    )
    """Networks that are reconciled at the same time."""
    resync_interval_s: int = _own(
        "resync_interval", values.whole(5, values.MAX_SECONDS), "60"
    )
    """Seconds between two passes over all networks, which repair what another
    program changed; at least one for each network here."""
    selfcheck_interval_s: int = _own("selfcheck_interval", SECONDS_OR_0, "30")
    """Seconds between two rounds in which the agent asks for metadata itself,
    as an instance would, in 8 networks in turn, and whether Nova answers. The
    requests cost Nova nothing and are not counted as an instance's. 0:
    never."""
    resolve_interval_s: int = _own("resolve_interval", SECONDS, "30")
    """Seconds between two look-ups of the names in nova_metadata_host."""
    privileged_config: Path = _own(
        "privileged_config",
        values.PATH,
        "/etc/ovn-metadata-agent/privileged.conf",
        restart=True,
    )
    """The privileged daemon's file. Only root may be able to write it. The
    daemon's systemd unit and the sudoers rule name it too."""
    service_user: str | None = _own("service_user", values.USER, restart=True)
    """The user that the agent becomes when it is started as root. Empty: the
    owner of state_path or, if that is root, the first of ovn-metadata and
    neutron that exists. If an agent ran as root before, its files in
    state_path and its log get that user as their owner."""
    chassis_name: str = _own("chassis_name", values.NAME, restart=True)
    """The chassis' name, if ovn-controller is started with -n. Empty: the name
    in ovn-controller's file system-id-override, else in Open_vSwitch
    external_ids:system-id. A host has one agent: a second one would remove the
    networks of the first, and refuses to start, whatever its state_path."""
    warnings: tuple[str, ...] = ()  # to be logged when the log is set up

    @property
    def gateway_threads(self) -> int:
        """The number of the gateway's threads."""
        return min(self.workers or 1, MAX_GATEWAY_THREADS)

    def files_in_use(self) -> tuple[Path, ...]:
        """Return the files of keys and certificates that are used."""
        used: list[Path | None] = []
        southbound = self.southbound
        remotes = (*southbound.remotes, self.vswitch.connection)
        if any(remote.startswith("ssl:") for remote in remotes):
            used += [southbound.private_key, southbound.certificate]
            used += [southbound.ca_cert]
        if self.nova.protocol == "https":
            used += [self.nova.client_cert, self.nova.client_key]
            used += [] if self.nova.insecure else self.nova.authorities
        return tuple(path for path in used if path is not None)


# The fields of Settings that are groups of fields.
GROUPS: dict[str, type] = {
    field.name: field.type
    for field in dataclasses.fields(Settings)
    if isinstance(field.type, type) and dataclasses.is_dataclass(field.type)
}

# Options of Neutron's agent without effect here. Their values are read only
# where another option has "$name".
IGNORED = {
    "DEFAULT": ("host", "metadata_proxy_user", "my_ip", "my_ipv6"),
    "ovn": ("ovn_nb_connection", "ovn_metadata_enabled"),
    "AGENT": (
        *("root_helper_daemon", "use_helper_for_ns_read"),
        *("check_child_processes_interval", "check_child_processes_action"),
        *("kill_scripts_path", "comment_iptables_rules", "report_interval"),
    ),
    "privsep": (
        *("user", "group", "capabilities", "thread_pool_size", "logger_name"),
    ),
}


def all_options() -> Iterator[tuple[type, str, Option]]:
    """Yield every option that has an effect: (class, field, option)."""
    for group in (*GROUPS.values(), Settings):
        for field in dataclasses.fields(group):
            if option := field.metadata.get("option"):
                yield group, field.name, option
