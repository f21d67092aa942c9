"""Where the log goes, by oslo.log's options."""

from __future__ import annotations

import getpass
import logging

from oslo_config import cfg
from oslo_log import log
from ovsdbapp.backend.ovs_idl import vlog

from .errors import StartError

LOG = logging.getLogger(__name__)

# As `ovsdb_log_level` has it -> the OVSDB library's own.
_OVSDB_LEVELS = {
    "CRITICAL": vlog.CRITICAL,
    "ERROR": vlog.ERROR,
    "WARNING": vlog.WARN,
    "INFO": vlog.INFO,
    "DEBUG": vlog.DEBUG,
}


def set_up(conf: cfg.ConfigOpts, program: str, *, ovsdb_level: str) -> None:
    """Log as CONF says; may be done again with another.

    OVSDB_LEVEL is that of the OVSDB library's messages. Raises StartError
    if the log can't be written; where it then goes is open.
    """
    vlog.reset_logger()
    vlog.use_python_logger(max_level=_OVSDB_LEVELS[ovsdb_level])
    try:
        log.setup(conf, program)
    except (OSError, log.LogConfigError) as error:
        raise StartError(
            f"can't write the log as {getpass.getuser()}: {error}; check "
            f"log_file and log_dir"
        ) from None
    except RuntimeError as error:
        # oslo.log's, where systemd's Python bindings are missing.
        if not conf.use_journal:
            raise
        conf.set_override("use_journal", override=False)
        conf.set_override("use_stderr", override=True)
        log.setup(conf, program)
        LOG.warning(
            "use_journal has no effect, the log goes to stderr: %s; install "
            "python3-systemd",
            error,
        )
