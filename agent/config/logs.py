"""Where the log goes, by oslo.log's options."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from oslo_config import cfg
from oslo_log import log
from ovsdbapp.backend.ovs_idl import vlog

from ..errors import StartError

LOG = logging.getLogger(__name__)


def file_of(conf: cfg.ConfigOpts, program: str) -> Path | None:
    """Return the file that CONF has the log in; None if it has none."""
    if conf.log_file:
        return Path(conf.log_dir or "", conf.log_file)
    return Path(conf.log_dir, f"{program}.log") if conf.log_dir else None


def check(conf: cfg.ConfigOpts, program: str, *, roots_are_ours: bool) -> None:
    """Raise StartError if `set_up` would for a file; make nothing.

    ROOTS_ARE_OURS: a start hands over a log that is root's.
    """
    config = conf.log_config_append
    if config and not os.access(config, os.R_OK):
        raise _refused(f"{config} (log_config_append) can't be read")
    file = file_of(conf, program)
    if file is None or config:
        return
    # Not Path's, which raises for a folder that is closed to us.
    place = file if os.path.exists(file) else file.parent  # noqa: PTH110
    is_roots = os.access(place, os.F_OK) and place.stat().st_uid == 0
    if not (roots_are_ours and is_roots) and not os.access(place, os.W_OK):
        raise _refused(f"Permission denied: {place}")


def _refused(reason: object) -> StartError:
    return StartError(
        f"can't write the log as uid {os.geteuid()}: {reason}; check "
        f"log_file, log_dir and the log's other options, and chown what "
        f"root has left there"
    )


def set_up(conf: cfg.ConfigOpts, program: str, *, ovsdb_level: str) -> None:
    """Log as CONF says; may be done again with another.

    OVSDB_LEVEL is that of the OVSDB library's messages. Raises StartError
    if the log can't be written; where it then goes is open.
    """
    # All of it, whatever the level: connections keep the functions that
    # they were made with.
    vlog.use_python_logger()
    logging.getLogger(vlog.__name__).setLevel(ovsdb_level)
    try:
        log.setup(conf, program)
    # What a library down there makes of a bad value.
    except (
        OSError,
        log.LogConfigError,
        ValueError,
        TypeError,
        ImportError,
    ) as error:
        raise _refused(error) from None
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
