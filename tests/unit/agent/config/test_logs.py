"""The log, set up again while the agent's threads go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_log import log

from ovn_metadata.agent.config import logs

LOG = logging.getLogger(__name__)
WAIT_S = 60
BLOCKED_S = 0.2


@pytest.fixture
def conf(tmp_path: Path) -> Iterator[cfg.ConfigOpts]:
    """Return options that log to a file; the log is as before afterwards."""
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    handlers, level = [*root.handlers], root.level
    made = cfg.ConfigOpts()
    log.register_options(made)
    made(["--log-file", str(tmp_path / "log")], default_config_files=[])
    yield made
    for handler in {*root.handlers} - {*handlers}:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.setLogRecordFactory(factory)


def test_a_line_of_a_thread_is_not_lost(conf, monkeypatch):
    """It comes while oslo.log has taken all handlers away."""
    logs.set_up(conf, "agent", ovsdb_level="INFO")
    written = threading.Event()

    def write() -> None:
        LOG.warning("a line")
        written.set()

    writer, set_up = threading.Thread(target=write), log.setup

    def slowly(conf: cfg.ConfigOpts, program: str) -> None:
        logging.getLogger().handlers.clear()
        writer.start()
        assert not written.wait(BLOCKED_S)
        set_up(conf, program)

    monkeypatch.setattr(log, "setup", slowly)
    logs.set_up(conf, "agent", ovsdb_level="INFO")
    writer.join(WAIT_S)
    assert "a line" in Path(conf.log_file).read_text()
