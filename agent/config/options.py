"""Read `Settings` from the command line and the operator's files.

Neutron's files can be used as they are: options of other programs in them are
ignored.
"""

import dataclasses
import functools
import importlib.metadata
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from oslo_config import cfg
from oslo_log import log
from oslo_log._options import list_opts  # its oslo.config.opts entry point

from ..core.masking import is_secret
from ..errors import ConfigError
from ..lookup import own_address
from .per_project import OFF
from .settings import (
    BOOT_REQUESTS,
    GROUPS,
    IGNORED,
    MAX_GATEWAY_THREADS,
    RateLimit,
    Settings,
    all_options,
)
from .sources import Options, Origin, Sources, may_exist
from .values import is_address

PROJECT = "neutron"
PROGRAM = "ovn-metadata-agent"
NEUTRON_PROGRAM = "neutron-ovn-metadata-agent"
_DESCRIPTION = (
    "Serve instance metadata on every logical network with a port on this "
    "chassis. Takes neutron.conf and neutron_ovn_metadata_agent.ini as they "
    "are; all options are in agent.conf.sample. With --check it starts "
    "nothing, and reports whether it would start with this configuration "
    "(exit code 0; 1: no), and what is missing on this host (2)."
)
OWN_FILE = "/etc/ovn-metadata-agent/agent.conf"

# By "[section] name".
_OPTIONS = {
    str(option): (
        option.section,
        cfg.Opt(
            option.name,
            # oslo.config takes any callable, but its types forbid it.
            type=option.value,  # type: ignore[arg-type]  # see above
            default=option.default,
            secret=option.secret,
            deprecated_name=option.old_name or None,
        ),
    )
    for _, _, option in all_options()
}


def load(argv: Sequence[str]) -> tuple[cfg.ConfigOpts, Settings]:
    """Read the configuration that ARGV names, or the default files.

    The options are returned for oslo.log, which reads its own among them.
    Raises ConfigError; SystemExit for --help, --version and a bad ARGV.
    """
    files = _Files(argv)
    _check_log(files)
    groups = {
        name: kind(**files.fields(kind)) for name, kind in GROUPS.items()
    }
    # As Neutron's agent does, by `requests`.
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle and groups["nova"].ca_cert is None:
        groups["nova"] = dataclasses.replace(
            groups["nova"], ca_cert=Path(bundle)
        )
    settings = Settings(**groups, **files.fields(Settings))
    _check_together(settings, files)
    warnings = tuple(_warnings(settings, files.sources))
    return files.conf, dataclasses.replace(settings, warnings=warnings)


def status_socket(argv: Sequence[str]) -> Path:
    """Return the status socket of the agent that ARGV configures.

    No other option is checked: the agent may still run with the settings
    from before a bad edit. Raises ConfigError.
    """
    path: Path = _Files(argv).get(
        *_OPTIONS["[ovn_metadata_agent] status_socket"]
    )
    return path


def written(
    argv: Sequence[str],
) -> tuple[list[tuple[cfg.Opt, str, Origin]], list[str]]:
    """Return (option, section, origin) of all options, and the secrets.

    As they are in the files; nothing is checked. The secrets are of any
    program: all options in all files that ARGV names. Raises ConfigError.
    """
    sources = _Files(argv).sources
    options = [(option, section) for section, option in _OPTIONS.values()]
    options += [(option, "DEFAULT") for option in _log_options()]
    found = [(o, section, sources.find(section, o)) for o, section in options]
    secrets = [
        *(text for name, text in sources.all if is_secret(name, text)),
        *(o.text for option, _, o in found if is_secret(option.name, o.text)),
    ]
    return found, secrets


def unreadable(argv: Sequence[str]) -> str:
    """Return why this user can't read the files of ARGV; "" if it can."""
    try:
        _Files(argv)
    except ConfigError as error:
        return str(error)
    return ""


@functools.cache  # pip may replace the package while the agent runs
def version() -> str:
    """Return the version of what runs."""
    return importlib.metadata.version("ovn-metadata-agent")


class _Files:
    """The files that a command line names, or the default ones."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Read them; raise ConfigError if a file can't be read."""
        self.conf = Options()
        log.register_options(self.conf)
        # As with Neutron's agent, --state_path can be an argument.
        self.conf.register_cli_opt(_OPTIONS["[DEFAULT] state_path"][1])
        self._read(argv)
        self.sources = Sources(self.conf.files)
        defaults = {"host": socket.gethostname()}
        if any("my_ip" in text for _, text in self.sources.all):
            # As Neutron's agent finds them.
            defaults["my_ip"] = own_address("192.0.2.0") or "127.0.0.1"
            defaults["my_ipv6"] = own_address("2001:db8::1") or "::1"
        ignored = (
            (section, cfg.StrOpt(name, default=defaults.get(name, "")))
            for section, names in IGNORED.items()
            for name in names
        )
        for section, option in (*_OPTIONS.values(), *ignored):
            group = None if section == "DEFAULT" else section
            self.conf.register_opt(option, group)

    def _read(self, argv: Sequence[str]) -> None:
        files = _default(cfg.find_config_files)
        if may_exist(OWN_FILE):
            files.append(OWN_FILE)
        try:
            self.conf(
                args=list(argv),
                project=PROJECT,
                prog=PROGRAM,
                description=_DESCRIPTION,
                version=version(),
                default_config_files=files,
                default_config_dirs=_default(cfg.find_config_dirs),
            )
        except cfg.Error as error:
            # Not its text: that can quote a line, which may have the secret.
            raise ConfigError(
                f"the configuration can't be read: {type(error).__name__}"
            ) from None

    def get(self, section: str, option: cfg.Opt) -> Any:
        """Return the value of OPTION in SECTION; raise ConfigError."""
        try:
            group = self.conf if section == "DEFAULT" else self.conf[section]
            return group[option.dest]
        except (cfg.Error, ValueError, RecursionError) as error:
            raise self.sources.error(section, option, _reason(error)) from None

    def fields(self, group: type) -> dict[str, Any]:
        """Return the fields of the dataclass GROUP that are options."""
        return {
            field: self.get(*_OPTIONS[str(option)])
            for of, field, option in all_options()
            if of is group
        }

    def error(self, name: str, reason: str) -> ConfigError:
        """Return the error that the option NAME is bad for REASON."""
        return self.sources.error(*_OPTIONS[name], reason)


def _default(find: Callable[[str, str], list[str]]) -> list[str]:
    """Return what FIND finds for us and for Neutron's agent."""
    found = [*find(PROJECT, NEUTRON_PROGRAM), *find(PROJECT, PROGRAM)]
    return list(dict.fromkeys(found))


def _log_options() -> list[cfg.Opt]:
    return [option for _, options in list_opts() for option in options]


def _check_log(files: "_Files") -> None:
    """Raise ConfigError for an option of oslo.log that it can't use."""
    for option in _log_options():
        if option.dest not in files.conf:  # not all are registered
            continue
        value = files.get("DEFAULT", option)
        if option.dest == "default_log_levels":
            levels = {each.partition("=")[2] for each in value}
            unknown = levels - {*logging.getLevelNamesMapping()}
            if not all(level.isdecimal() for level in unknown):
                reason = (
                    "must be MODULE=LEVEL, with a level such as INFO; "
                    "several separated by commas"
                )
                raise files.sources.error("DEFAULT", option, reason)


def _reason(error: BaseException) -> str:
    """Return what is wrong, in the words of the option's type."""
    if isinstance(error, RecursionError):
        return 'the "$" in it leads back to itself'
    if isinstance(error, cfg.Error) and error.__context__ is not None:
        return _reason(error.__context__)
    if isinstance(error, cfg.Error):
        return 'the "$" in it names no option; write "$$" for a dollar'
    return " ".join(str(error).split())


def _check_together(settings: Settings, files: _Files) -> None:
    """Raise ConfigError for values that are good alone, but not together."""
    nova, southbound = settings.nova, settings.southbound
    if settings.shield.tokens != OFF and not settings.shared_secret:
        needed = "[DEFAULT] metadata_proxy_shared_secret"
        raise files.error("[ovn_metadata_agent] tokens", f"needs {needed}")
    client = {
        "[DEFAULT] nova_client_cert": nova.client_cert,
        "[DEFAULT] nova_client_priv_key": nova.client_key,
    }
    ours = {
        "[ovn] ovn_sb_private_key": southbound.private_key,
        "[ovn] ovn_sb_certificate": southbound.certificate,
    }
    for pair in (client, ours):
        given = [name for name, path in pair.items() if path]
        missing = [name for name, path in pair.items() if not path]
        if given and missing:
            raise files.error(given[0], f"needs {missing[0]} beside it")
    authorities = {"[ovn] ovn_sb_ca_cert": southbound.ca_cert}
    for name, remotes in (
        ("[ovn] ovn_sb_connection", southbound.remotes),
        ("[ovs] ovsdb_connection", (settings.vswitch.connection,)),
    ):
        if any(remote.startswith("ssl:") for remote in remotes):
            # The OVSDB library needs all three.
            for needed, path in (ours | authorities).items():
                if path is None:
                    raise files.error(name, f"needs {needed} for ssl")
    nova_ca = [("[DEFAULT] auth_ca_cert", path) for path in nova.authorities]
    given_files = (client | ours | authorities).items()
    for name, path in (*nova_ca, *given_files):
        if path in settings.files_in_use():
            _check_readable(name, path, files)


def _check_readable(name: str, path: Path, files: _Files) -> None:
    try:
        path.open("rb").close()
    except IsADirectoryError:
        reason = "has no file that is named by its hash (openssl rehash)"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    else:
        return
    text = files.sources.find(*_OPTIONS[name]).text
    if not text:
        reason = f"REQUESTS_CA_BUNDLE {path} {reason}"
    elif text != str(path):
        reason = f"{path} {reason}"
    raise files.error(name, reason)


def _warnings(settings: Settings, sources: Sources) -> Iterator[str]:
    """Yield warnings about settings that can be used."""
    nova = settings.nova
    if not settings.shared_secret:
        yield (
            "[DEFAULT] metadata_proxy_shared_secret is empty: any client "
            "that reaches Nova's metadata API can act as any instance; set "
            "it here and in nova.conf [neutron]"
        )
    if sources.find("DEFAULT", cfg.StrOpt("metadata_proxy_user")).text:
        yield (
            "[DEFAULT] metadata_proxy_user has no effect: the haproxies' "
            "user is in privileged.conf"
        )
    if nova.protocol == "https" and nova.insecure:
        yield (
            "[DEFAULT] nova_metadata_insecure is true: Nova's certificate "
            "is not checked; set auth_ca_cert instead"
        )
    elif nova.protocol == "https" and any(
        is_address(host) for host, _ in nova.hosts
    ):
        yield (
            "[DEFAULT] nova_metadata_host is an address: haproxy can't "
            "compare it with Nova's certificate and accepts any that the "
            "authority signed; give a name"
        )
    if (settings.workers or 0) > MAX_GATEWAY_THREADS:
        yield (
            f"[DEFAULT] metadata_workers = {settings.workers}: the gateway "
            f"gets {MAX_GATEWAY_THREADS} threads, haproxy's maximum"
        )
    yield from _limits_below_one_boot(settings.rate_limit)
    own = "ovn_metadata_agent"
    for file, name in sources.names(own):
        if f"[{own}] {name}" not in _OPTIONS:
            shown = repr(name)[1:-1]  # it may have control characters
            yield f"{file}: [{own}] {shown} is no option of this agent"


def _limits_below_one_boot(limit: RateLimit) -> Iterator[str]:
    """Yield a warning for each number of LIMIT that a boot exceeds."""
    allowed = {
        "base_query_rate_limit": limit.base_requests,
        "burst_query_rate_limit": limit.burst_requests,
    }
    for name, requests in allowed.items():
        if limit.enabled and requests < BOOT_REQUESTS:
            yield (
                f"[metadata_rate_limiting] {name} = {requests}: less than "
                f"the {BOOT_REQUESTS} requests of one boot; an instance that "
                f"boots is answered 429 and may stay without its metadata"
            )
