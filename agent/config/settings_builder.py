"""From checked options to `Settings`, and what only shows in combination."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from oslo_config import cfg

from ..errors import ConfigError
from ..nova_hosts import is_address
from . import settings
from .option_table import OPTIONS, OWN_GROUP
from .sources import WrittenOptions

_TLS = ("ovn_sb_private_key", "ovn_sb_certificate", "ovn_sb_ca_cert")
MAX_GATEWAY_THREADS = 64  # haproxy's nbthread

# (section, option, reason) to the error that says so
_Fail = Callable[[str, str, str], ConfigError]


def section(conf: cfg.ConfigOpts, group: str) -> Mapping[str, Any]:
    """Return the options of GROUP by name."""
    options: Mapping[str, Any] = conf if group == "DEFAULT" else conf[group]
    return options


def build(conf: cfg.ConfigOpts, written: WrittenOptions) -> settings.Settings:
    """Return the settings in CONF, whose values are good one by one.

    Raises ConfigError for those that are not good together.
    """

    def fail(group: str, name: str, reason: str) -> ConfigError:
        option = next(o for o in OPTIONS[group] if o.dest == name)
        return written.error(group, option, reason)

    own = conf[OWN_GROUP]
    root_helper = conf.AGENT.root_helper
    return settings.Settings(
        state_path=conf.state_path,
        proxy_socket=conf.metadata_proxy_socket,
        proxy_gid=conf.metadata_proxy_group,
        socket_mode=conf.metadata_proxy_socket_mode,
        gateway_threads=min(conf.metadata_workers or 1, MAX_GATEWAY_THREADS),
        backlog=conf.metadata_backlog,
        nova=_nova(conf, fail),
        shared_secret=conf.metadata_proxy_shared_secret,
        pids_path=conf.external_pids,
        agent_down_time_s=conf.agent_down_time,
        vswitch=settings.Vswitch(
            connection=conf.ovs.ovsdb_connection,
            timeout_s=conf.ovs.ovsdb_connection_timeout,
        ),
        southbound=_southbound(conf, fail),
        # Neutron's default is "sudo": nobody's decision.
        root_helper=None if root_helper in ("", "sudo") else root_helper,
        helper_command=conf.privsep.helper_command or None,
        timeouts=_timeouts(conf),
        rate_limit=_rate_limit(conf),
        fair_share=settings.FairShare(
            connections=own.instance_connections,
            uploads=own.instance_uploads,
            greedy_rate=own.greedy_rate,
            greedy_requests=own.greedy_requests,
            logged_rate=own.logged_rate,
        ),
        status_socket=own.status_socket,
        reconcile_workers=own.reconcile_workers,
        resync_interval_s=own.resync_interval,
        resolve_interval_s=own.resolve_interval,
        privileged_config=own.privileged_config,
        service_user=own.service_user,
        chassis_name=own.chassis_name.strip(),
        warnings=tuple(_warnings(conf, written)),
    )


def _nova(conf: cfg.ConfigOpts, fail: _Fail) -> settings.Nova:
    _check_pair(conf, fail, "nova_client_cert", "nova_client_priv_key")
    if conf.nova_metadata_protocol == "https":
        used = ["nova_client_cert", "nova_client_priv_key"]
        if not conf.nova_metadata_insecure:
            used.append("auth_ca_cert")
        _check_readable(conf, fail, *used)
    endpoints = (
        settings.NovaEndpoint(host, port or conf.nova_metadata_port)
        for host, port in conf.nova_metadata_host
    )
    return settings.Nova(
        endpoints=tuple(dict.fromkeys(endpoints)),
        protocol=conf.nova_metadata_protocol,
        ca_cert=conf.auth_ca_cert,
        insecure=conf.nova_metadata_insecure,
        client_cert=conf.nova_client_cert,
        client_key=conf.nova_client_priv_key,
    )


def _southbound(conf: cfg.ConfigOpts, fail: _Fail) -> settings.Southbound:
    ovn = conf.ovn
    _check_pair(
        conf, fail, "ovn_sb_certificate", "ovn_sb_private_key", group="ovn"
    )
    for group, option, remotes in (
        ("ovn", "ovn_sb_connection", ovn.ovn_sb_connection),
        ("ovs", "ovsdb_connection", (conf.ovs.ovsdb_connection,)),
    ):
        if any(remote.startswith("ssl:") for remote in remotes):
            # The OVSDB library has no other way.
            for name in _TLS:
                if ovn[name] is None:
                    raise fail(group, option, f"needs [ovn] {name} for ssl")
            _check_readable(conf, fail, *_TLS, group="ovn")
    return settings.Southbound(
        remotes=ovn.ovn_sb_connection,
        private_key=ovn.ovn_sb_private_key,
        certificate=ovn.ovn_sb_certificate,
        ca_cert=ovn.ovn_sb_ca_cert,
        timeout_s=ovn.ovsdb_connection_timeout,
        retry_max_interval_s=ovn.ovsdb_retry_max_interval,
        probe_interval_ms=ovn.ovsdb_probe_interval,
        log_level=ovn.ovsdb_log_level,
    )


def _timeouts(conf: cfg.ConfigOpts) -> settings.Timeouts:
    own = conf.metadata_haproxy
    return settings.Timeouts(
        connect_s=own.timeout_connect,
        client_s=own.timeout_client,
        server_s=own.timeout_server,
        http_request_s=own.timeout_http_request,
        http_keep_alive_s=own.timeout_http_keep_alive,
    )


def _rate_limit(conf: cfg.ConfigOpts) -> settings.RateLimit:
    own = conf.metadata_rate_limiting
    return settings.RateLimit(
        enabled=own.rate_limit_enabled,
        ip_versions=own.ip_versions,
        base_window_s=own.base_window_duration,
        base_requests=own.base_query_rate_limit,
        burst_window_s=own.burst_window_duration,
        burst_requests=own.burst_query_rate_limit,
    )


def _check_pair(
    conf: cfg.ConfigOpts,
    fail: _Fail,
    certificate: str,
    key: str,
    *,
    group: str = "DEFAULT",
) -> None:
    own = section(conf, group)
    for present, missing in ((certificate, key), (key, certificate)):
        if own[present] and not own[missing]:
            raise fail(group, present, f"needs [{group}] {missing} beside it")


def _check_readable(
    conf: cfg.ConfigOpts, fail: _Fail, *names: str, group: str = "DEFAULT"
) -> None:
    for name in names:
        file: Path | None = section(conf, group)[name]
        if file is None:
            continue
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            raise fail(
                group, name, f"cannot be read: {error.strerror}"
            ) from None


def _warnings(conf: cfg.ConfigOpts, written: WrittenOptions) -> Iterator[str]:
    """Yield what an operator should look at, though it can be used."""
    if not conf.metadata_proxy_shared_secret:
        yield (
            "[DEFAULT] metadata_proxy_shared_secret is empty: whoever "
            "reaches Nova's metadata API can speak for any instance; set "
            "it here and in nova.conf [neutron]"
        )
    if written.find("DEFAULT", cfg.StrOpt("metadata_proxy_user")).text:
        yield (
            "[DEFAULT] metadata_proxy_user has no effect: the haproxies' "
            "user is in privileged.conf"
        )
    if conf.nova_metadata_protocol == "https" and conf.nova_metadata_insecure:
        yield (
            "[DEFAULT] nova_metadata_insecure is true: Nova's certificate "
            "is not looked at; set auth_ca_cert instead"
        )
    elif conf.nova_metadata_protocol == "https" and any(
        is_address(host) for host, _ in conf.nova_metadata_host
    ):
        yield (
            "[DEFAULT] nova_metadata_host is an address: haproxy can't "
            "compare it with Nova's certificate and takes any of the "
            "authority's; give a name"
        )
    if (conf.metadata_workers or 0) > MAX_GATEWAY_THREADS:
        yield (
            f"[DEFAULT] metadata_workers = {conf.metadata_workers}: the "
            f"gateway gets {MAX_GATEWAY_THREADS} threads, haproxy's most"
        )
    known = {option.dest for option in OPTIONS[OWN_GROUP]}
    for file, name in written.names(OWN_GROUP):
        if name not in known:
            yield f"{file}: [{OWN_GROUP}] {name} is no option of this agent"
