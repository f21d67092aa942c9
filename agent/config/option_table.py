"""The options: Neutron's, under its names and sections, and a few of ours.

Defaults and old names are those of Neutron's agent.
etc/ovn-metadata-agent/agent.conf.sample explains each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from oslo_config import cfg

from . import values as types

OWN_GROUP = "ovn_metadata_agent"

# Of a socket's path Linux takes 107 bytes. We can do with longer ones, who
# connects to these may not.
_MAX_SOCKET = 107
_MAX_WORKERS = 256
_MAX_SHARE = 1_000_000


def _opt(
    name: str,
    type_: Callable[[object], object],
    default: object = None,
    **more: Any,
) -> cfg.Opt:
    # oslo.config takes any callable as a type, but does not say so.
    return cfg.Opt(name, type=type_, default=default, **more)  # type: ignore[arg-type]  # see above


def _text(name: str, default: str | None = None, **more: Any) -> cfg.Opt:
    return _opt(name, types.text_line, default, **more)


_PORT = types.whole(1, types.MAX_PORT)
_COUNT = types.whole(1, types.MAX_INT)
_NUMBER = types.whole(0, types.MAX_INT)
_SECONDS = types.whole(1, types.MAX_SECONDS)
_SHARE = types.whole(0, _MAX_SHARE)

OPTIONS: dict[str, list[cfg.Opt]] = {
    "DEFAULT": [
        _opt("state_path", types.folder, "/var/lib/neutron"),
        _opt(
            "metadata_proxy_socket",
            types.socket_path(_MAX_SOCKET),
            "$state_path/metadata_proxy",
        ),
        _opt("metadata_proxy_group", types.group_id, ""),
        _opt(
            "metadata_proxy_socket_mode",
            types.one_of("deduce", "user", "group", "all"),
            "deduce",
        ),
        _opt("metadata_workers", types.whole(0, may_be_empty=True)),
        _opt("metadata_backlog", _COUNT, 4096),
        _opt("auth_ca_cert", types.optional_path),
        _opt(
            "nova_metadata_host",
            types.hosts,
            "127.0.0.1",
            deprecated_name="nova_metadata_ip",
        ),
        _opt("nova_metadata_port", _PORT, 8775),
        _opt("nova_metadata_protocol", types.one_of("http", "https"), "http"),
        _opt("nova_metadata_insecure", types.flag, default=False),
        _opt("nova_client_cert", types.optional_path, ""),
        _opt("nova_client_priv_key", types.optional_path, ""),
        _text("metadata_proxy_shared_secret", "", secret=True),
        _opt("external_pids", types.folder, "$state_path/external/pids"),
        _opt("agent_down_time", _SECONDS, 75),
    ],
    "ovs": [
        _opt(
            "ovsdb_connection",
            types.remote,
            "unix:/usr/local/var/run/openvswitch/db.sock",
        ),
        _opt("ovsdb_connection_timeout", _SECONDS, 180),
    ],
    "ovn": [
        _opt("ovn_sb_connection", types.remotes, "tcp:127.0.0.1:6642"),
        _opt("ovn_sb_private_key", types.optional_path, ""),
        _opt("ovn_sb_certificate", types.optional_path, ""),
        _opt("ovn_sb_ca_cert", types.optional_path, ""),
        _opt("ovsdb_connection_timeout", _SECONDS, 180),
        # Neutron's 180 leaves a chassis behind for minutes after an outage;
        # this is the library's own.
        _opt("ovsdb_retry_max_interval", _SECONDS, 8),
        _opt("ovsdb_probe_interval", _NUMBER, 60000),
        _opt(
            "ovsdb_log_level",
            types.one_of("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"),
            "INFO",
        ),
    ],
    "AGENT": [
        _opt("root_helper", types.command),
    ],
    "privsep": [
        _opt("helper_command", types.command),
    ],
    "metadata_rate_limiting": [
        _opt("rate_limit_enabled", types.flag, default=False),
        _opt("ip_versions", types.ip_versions, "4"),
        _opt("base_window_duration", _SECONDS, 10),
        _opt("base_query_rate_limit", _COUNT, 10),
        _opt("burst_window_duration", _SECONDS, 10),
        _opt("burst_query_rate_limit", _COUNT, 10),
    ],
    "metadata_haproxy": [
        _opt("timeout_connect", _SECONDS, 30),
        _opt("timeout_client", _SECONDS, 32),
        _opt("timeout_server", _SECONDS, 32),
        _opt("timeout_http_request", _SECONDS, 30),
        _opt("timeout_http_keep_alive", _SECONDS, 30),
    ],
    OWN_GROUP: [
        _opt(
            "status_socket",
            types.socket_path(_MAX_SOCKET),
            "$state_path/ovn-metadata-agent.sock",
        ),
        _opt("reconcile_workers", types.whole(1, _MAX_WORKERS), 4),
        # What no boot reaches.
        _opt("instance_connections", _SHARE, 256),
        _opt("instance_uploads", _SHARE, 2),
        _opt("greedy_rate", _SHARE, 50),
        _opt("greedy_requests", types.whole(1, _MAX_SHARE), 16),
        _opt("logged_rate", _SHARE, 50),
        _opt("resolve_interval", _SECONDS, 30),
        _opt("resync_interval", types.whole(5, types.MAX_SECONDS), 60),
        _opt(
            "privileged_config",
            types.path,
            "/etc/ovn-metadata-agent/privileged.conf",
        ),
        _opt("service_user", types.user, ""),
        _text("chassis_name", ""),
    ],
}

# Of Neutron's agent, and without effect here. Their values are never looked
# at, except by a "$name" in another option.
IGNORED: dict[str, dict[str, str]] = {
    "DEFAULT": {"host": "", "metadata_proxy_user": ""},
    "ovn": {
        "ovn_nb_connection": "tcp:127.0.0.1:6641",
        "ovn_metadata_enabled": "false",
    },
    "AGENT": {
        "root_helper_daemon": "",
        "use_helper_for_ns_read": "true",
        "check_child_processes_interval": "60",
        "check_child_processes_action": "respawn",
        "kill_scripts_path": "/etc/neutron/kill_scripts/",
        "comment_iptables_rules": "true",
        "report_interval": "30",
    },
    "privsep": {
        "user": "",
        "group": "",
        "capabilities": "",
        "thread_pool_size": "",
        "logger_name": "oslo_privsep.daemon",
    },
}
