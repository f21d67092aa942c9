"""From configuration files to `Settings`.

Neutron's files can be used as they are: what else they hold is ignored.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from oslo_config import cfg
from oslo_log import log
from oslo_log._options import list_opts  # its oslo.config.opts entry point

from ..errors import ConfigError
from .option_table import IGNORED, OPTIONS, OWN_GROUP
from .settings import Settings
from .settings_builder import build, section
from .sources import WrittenOptions, files_read

PROJECT = "neutron"
NEUTRON_PROGRAM = "neutron-ovn-metadata-agent"
_DESCRIPTION = (
    "Serve instance metadata on every logical network with a port on this "
    "chassis. Takes neutron.conf and neutron_ovn_metadata_agent.ini as they "
    "are; all options are in agent.conf.sample. With --check, nothing is "
    "started: it says whether it would start with this configuration (exit "
    "code 0; 1: no), and what it would wait for or lack on this host (2)."
)
OWN_FILE = "/etc/ovn-metadata-agent/agent.conf"


def load(argv: Sequence[str], program: str) -> tuple[cfg.ConfigOpts, Settings]:
    """Read the configuration that ARGV names, or the default files.

    PROGRAM, the name we were started by, takes part in finding those.
    Returns the options too, for oslo.log, which has its own among them.
    Raises ConfigError; SystemExit for --help, --version and a bad ARGV.
    """
    files = _Files(argv, program)
    _check_log_options(files.written)
    conf = _new_conf()
    files.read_into(conf)
    written = files.written
    for group, option in _all_options(conf):
        _check(conf, group, option, written)
    return conf, build(conf, written)


def status_socket(argv: Sequence[str], program: str) -> Path:
    """Return where the agent that is configured by ARGV tells its status.

    Whatever else is in its files: they may be bad by now, and the agent
    run on what they said before. Raises ConfigError.
    """
    conf = cfg.ConfigOpts()
    conf.register_opts(OPTIONS["DEFAULT"])
    conf.register_opts(OPTIONS[OWN_GROUP], OWN_GROUP)
    files = _Files(argv, program)
    files.read_into(conf)
    option = next(o for o in OPTIONS[OWN_GROUP] if o.dest == "status_socket")
    _check(conf, OWN_GROUP, option, files.written)
    path: Path = conf[OWN_GROUP].status_socket
    return path


def unreadable(argv: Sequence[str], program: str) -> str:
    """Return why the files of ARGV can't be read as who we are now; or ""."""
    try:
        _Files(argv, program)
    except ConfigError as error:
        return str(error)
    return ""


class _Files:
    """The files that a command line names, or the default ones."""

    def __init__(self, argv: Sequence[str], program: str) -> None:
        """Read them; raise ConfigError naming one that can't be read."""
        self._argv = list(argv)
        self._program = program
        self._files = _default(cfg.find_config_files, program)
        if os.path.exists(OWN_FILE):  # noqa: PTH110 # a name among names
            self._files.append(OWN_FILE)
        self._dirs = _default(cfg.find_config_dirs, program)
        self.written = WrittenOptions(
            files_read(
                argv, default_files=self._files, default_dirs=self._dirs
            )
        )

    def read_into(self, conf: cfg.ConfigOpts) -> None:
        """Have CONF know what they say; raise ConfigError."""
        try:
            conf(
                args=self._argv,
                project=PROJECT,
                prog=self._program,
                description=_DESCRIPTION,
                version=version(),
                default_config_files=self._files,
                default_config_dirs=self._dirs,
            )
        except cfg.Error as error:
            # Not its text: that can quote a line, and there is a secret in
            # one.
            raise ConfigError(
                f"the configuration can't be read: {type(error).__name__}"
            ) from None


def _default(find: Callable[[str, str], list[str]], program: str) -> list[str]:
    """Return what FIND finds by Neutron's name for us and by PROGRAM."""
    found = [*find(PROJECT, NEUTRON_PROGRAM), *find(PROJECT, program)]
    return list(dict.fromkeys(found))


def _new_conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    for group, options in OPTIONS.items():
        conf.register_opts(options, None if group == "DEFAULT" else group)
    for group, ignored in IGNORED.items():
        for name, default in ignored.items():
            option = cfg.StrOpt(name, default=default)
            conf.register_opt(option, None if group == "DEFAULT" else group)
    return conf


def version() -> str:
    """Return the version that is installed."""
    try:
        return importlib.metadata.version("ovn-metadata-agent")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _log_options() -> list[cfg.Opt]:
    return [option for _, options in list_opts() for option in options]


def _check_log_options(written: WrittenOptions) -> None:
    """Raise ConfigError if a file has a bad value for one of oslo.log's.

    oslo.config converts those that are on the command line too while it
    parses, and exits without a word about the file.
    """
    for option in _log_options():
        origin = written.find("DEFAULT", option)
        if origin.is_written and "$" not in origin.text:
            try:
                option.type(origin.text)
            except ValueError as error:
                raise written.error(
                    "DEFAULT", option, _reason(error)
                ) from None


def _all_options(conf: cfg.ConfigOpts) -> Iterator[tuple[str, cfg.Opt]]:
    for option in _log_options():
        if option.dest in conf:  # not all are registered
            yield "DEFAULT", option
    for group, options in OPTIONS.items():
        for option in options:
            yield group, option


def _check(
    conf: cfg.ConfigOpts, group: str, option: cfg.Opt, written: WrittenOptions
) -> None:
    """Raise ConfigError unless OPTION in GROUP has a value."""
    try:
        section(conf, group)[option.dest]
    except (cfg.Error, ValueError, RecursionError) as error:
        raise written.error(group, option, _reason(error)) from None


def _reason(error: BaseException) -> str:
    """Say what is wrong in the words of the option's type."""
    if isinstance(error, RecursionError):
        return 'the "$" in it leads back to itself'
    if isinstance(error, cfg.Error) and error.__context__ is not None:
        return _reason(error.__context__)
    if isinstance(error, cfg.NoSuchOptError | cfg.NoSuchGroupError):
        return 'the "$" in it names no option; write "$$" for a dollar'
    if isinstance(error, cfg.Error):
        return "not valid"
    return " ".join(str(error).split())
