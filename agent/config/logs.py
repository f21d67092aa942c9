"""Set up the log as oslo.log's options say."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from oslo_config import cfg
from oslo_log import formatters, handlers, log, rate_limit
from ovsdbapp.backend.ovs_idl import vlog

from ..errors import StartError
from .options import PROGRAM

LOG = logging.getLogger(__name__)
# oslo.log ends a line with the exception that is being handled. Ours have its
# text already.
formatters._get_error_summary = lambda record: ""  # noqa: ARG005

_REPEAT_S = 600.0
_AGAIN: dict[str, float] = {}  # message of the OVSDB library -> when
_FAILED: dict[logging.Handler, str] = {}  # why its last line was lost
_State: TypeAlias = tuple[int, tuple[logging.Handler, ...], bool, bool]
_NEW: _State = logging.NOTSET, (), True, False  # of a logger


def _once(record: logging.LogRecord) -> bool:
    """Let a message of the OVSDB library through once in ten minutes.

    It logs some for each attempt to connect. At DEBUG all are let through.
    """
    now = time.monotonic()
    for message in [m for m, at in [*_AGAIN.items()] if at <= now]:
        _AGAIN.pop(message, None)
    is_debug, again = record.levelno <= logging.DEBUG, now + _REPEAT_S
    return is_debug or _AGAIN.setdefault(record.getMessage(), again) == again


def _name() -> str:
    """Return the log's name: the command's, which may be Neutron's agent's."""
    return Path(sys.argv[0]).name


def file_of(conf: cfg.ConfigOpts) -> Path | None:
    """Return the log file that CONF names; None if it names none."""
    if conf.log_file:
        return Path(conf.log_dir or "", conf.log_file)
    return Path(conf.log_dir, f"{_name()}.log") if conf.log_dir else None


def check(conf: cfg.ConfigOpts, *, roots_are_ours: bool) -> None:
    """Raise StartError if `set_up` could not write the log; create nothing.

    ROOTS_ARE_OURS: a start as root gives a log that root owns to the
    agent's user.
    """
    config = conf.log_config_append
    if config and not os.access(config, os.R_OK):
        raise _refused(f"{config} (log_config_append) can't be read")
    file = file_of(conf)
    if file is None or config:
        return
    # Path.exists() raises if the folder can't be searched.
    place = file if os.path.exists(file) else file.parent  # noqa: PTH110
    try:
        is_given = place.stat().st_uid == 0 and place == file
    except OSError as error:
        raise _refused(f"{error.strerror}: {place}") from None
    if not (roots_are_ours and is_given) and not os.access(place, os.W_OK):
        raise _refused(f"Permission denied: {place}")


def _refused(reason: object) -> StartError:
    return StartError(
        f"can't write the log as uid {os.geteuid()}: {reason}; check "
        f"log_file, log_dir and the log's other options, and chown the "
        f"files there that root owns"
    )


def _guard_one(handler: logging.Handler) -> None:
    """Keep HANDLER from raising: that would end the thread that logs.

    A file that was renamed or removed is opened again by whoever logs next,
    so any thread may fail there. A line that can't be written goes to stderr,
    which may be the journal.
    """
    emit = handler.emit

    def emit_or_fail(record: logging.LogRecord) -> None:
        try:
            emit(record)
        except Exception:  # noqa: BLE001 # of any kind of handler
            fail(record)

    def fail(record: logging.LogRecord) -> None:
        """Note the error that is being handled; print RECORD."""
        error = sys.exc_info()[1]
        _FAILED[handler] = str(error) or type(error).__name__
        with contextlib.suppress(Exception):
            if sys.stderr:  # it may be closed
                print(handler.format(record), file=sys.stderr)

    vars(handler).update(emit=emit_or_fail, handleError=fail)


def problem() -> str:
    """Return why a log can't be written; "" if it can. It tries again."""
    for handler, reason in [*_FAILED.items()]:
        _FAILED.pop(handler, None)  # it is back if it fails again
        text = f"the log could not be written: {reason}"
        line = LOG.name, logging.WARNING, __file__, 0, text, (), None
        handler.handle(LOG.makeRecord(*line))
    return "; ".join(dict.fromkeys([*_FAILED.values()]))


def _guard(replaced: Iterable[logging.Handler]) -> None:
    """Guard all handlers; close the guarded ones of REPLACED."""
    now = {each for one in _loggers() for each in one.handlers}
    for handler in now:
        if "emit" not in vars(handler):
            _guard_one(handler)
    for handler in {*replaced} - now:
        if "emit" in vars(handler):
            with contextlib.suppress(OSError):  # its disk may be full
                handler.close()
            _FAILED.pop(handler, None)


def _loggers() -> list[logging.Logger]:
    known = [*logging.root.manager.loggerDict.values()]
    named = [one for one in known if isinstance(one, logging.Logger)]
    return [logging.root, *named]


def _state(one: logging.Logger) -> _State:
    return one.level, (*one.handlers,), one.propagate, one.disabled


def set_up(conf: cfg.ConfigOpts, ovsdb_level: str) -> None:
    """Log as CONF says; this can be called again with another one.

    OVSDB_LEVEL is the level of the OVSDB library's messages. Raises
    StartError if the log can't be written; then it goes where it went.
    """
    # Whatever the level: a connection keeps the functions that it was
    # created with.
    vlog.use_python_logger()
    library = logging.getLogger(vlog.__name__)
    library.addFilter(_once)
    # oslo.log's own is the file of the outermost frame: in any thread but the
    # first, that is threading.py.
    handlers._get_binary_name = _name
    # Where eventlet is imported, though not in use, Debian 12's oslo.log has
    # locks of pipes: a thread that waits for one needs a descriptor, keeps
    # it, and fails without one (https://github.com/eventlet/eventlet/issues/948).
    log._fix_eventlet_logging = lambda: None
    lacks_journal = conf.use_journal and not conf.log_config_append
    lacks_journal = lacks_journal and not vars(handlers)["journal"]
    if lacks_journal:
        conf.set_override("use_journal", override=False)
        conf.set_override("use_stderr", override=True)
    before = {one: _state(one) for one in _loggers()}
    try:
        library.setLevel(ovsdb_level)
        rate_limit.uninstall_filter()  # it refuses to be installed twice
        log.setup(conf, PROGRAM)
    except Exception as error:  # noqa: BLE001 # of libraries below oslo.log
        for one in _loggers():
            level, there, one.propagate, one.disabled = before.get(one, _NEW)
            one.setLevel(level)
            one.handlers[:] = there
        raise _refused(error) from None
    _guard(each for state in before.values() for each in state[1])
    if lacks_journal:
        LOG.warning(
            "use_journal has no effect, the log goes to stderr; to have it in "
            "the journal, install python3-systemd"
        )
