"""The log, set up again while the agent's threads go on."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_log import handlers as oslo_handlers
from oslo_log import log, rate_limit

from ovn_metadata.agent.config import logs
from ovn_metadata.agent.config.reload import Configuration
from ovn_metadata.agent.errors import StartError

LOG = logging.getLogger(__name__)
WAIT_S = 60


@pytest.fixture
def conf(tmp_path: Path) -> Iterator[cfg.ConfigOpts]:
    """Return options that log to a file; the log is as before afterwards."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    made = cfg.ConfigOpts()
    log.register_options(made)
    made(["--log-file", str(tmp_path / "log")], default_config_files=[])
    yield made
    for handler in {*root.handlers} - {*handlers}:
        with contextlib.suppress(OSError):  # its disk is full
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    rate_limit.uninstall_filter()
    logs._FAILED.clear()


def test_a_thread_waits_for_a_log_without_a_descriptor(conf):
    """Debian 12's libraries import eventlet, and do not use it."""
    importlib.import_module("oslo_privsep.daemon")
    logs.set_up(conf, "INFO")
    locks = [type(each.lock) for each in logging.getLogger().handlers]
    assert {*locks} == {type(threading.RLock())}


def test_a_log_that_is_lost_disturbs_nobody(conf, tmp_path, capsys):
    """The file was renamed or removed, and its folder takes no new one."""
    folder = tmp_path / "logs"
    folder.mkdir()
    conf.set_override("log_file", str(folder / "agent.log"))
    logs.set_up(conf, "INFO")
    LOG.warning("one")
    assert logs.problem() == ""
    moved = folder.rename(tmp_path / "moved")
    LOG.warning("two")
    assert "No such file" in logs.problem()
    try:
        raise ValueError("of a thread")
    except ValueError:
        LOG.exception("three")
    lost = capsys.readouterr().err
    assert " WARNING " in lost
    assert "two" in lost
    assert "ValueError: of a thread" in lost
    moved.rename(folder)
    assert logs.problem() == ""  # it has tried again
    LOG.warning("four")
    words = ["one", "could not be written: [Errno 2] No such file", "four"]
    lines = (folder / "agent.log").read_text().splitlines()
    for line, word in zip(lines, words, strict=True):
        assert word in line


def test_a_log_for_errors_alone_is_tried_again_too(conf, monkeypatch):
    """As log_config_append may add one."""
    logs.set_up(conf, "INFO")
    errors = logging.FileHandler("/dev/full")
    errors.setLevel(logging.ERROR)
    logging.getLogger().addHandler(errors)
    logs._guard(())
    LOG.error("one")
    assert "No space left on device" in logs.problem()
    monkeypatch.setattr(errors, "stream", open(os.devnull, "w"))  # noqa: SIM115
    assert logs.problem() == ""


def test_a_reload_leaves_no_descriptor_behind(conf):
    def opened() -> int:
        links = []
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.append(str(each.readlink()))
        return links.count(conf.log_file)

    for _ in range(5):
        logs.set_up(conf, "INFO")
        assert opened() == 1


def test_a_log_on_a_full_disk_is_named(conf, monkeypatch):
    conf.set_override("log_file", "/dev/full")
    logs.set_up(conf, "INFO")
    LOG.warning("one")
    assert "No space left on device" in logs.problem()


@pytest.mark.parametrize("command", ["ovn-metadata-agent", "neutron-x-agent"])
def test_a_reload_in_a_thread_keeps_the_name(
    conf, tmp_path, monkeypatch, command
):
    """Of the file, and of the journal: oslo.log's would be threading.py."""
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{command}"])
    folder = tmp_path / "folder"
    folder.mkdir()
    conf.set_override("log_file", None)
    conf.set_override("log_dir", str(folder))
    logs.set_up(conf, "INFO")
    names = []

    def reload() -> None:
        logs.set_up(conf, "INFO")
        names.append(oslo_handlers._get_binary_name())
        LOG.warning("a line")

    thread = threading.Thread(target=reload)
    thread.start()
    thread.join(WAIT_S)
    assert names == [command]
    assert [*folder.iterdir()] == [logs.file_of(conf)]
    assert "a line" in (folder / f"{command}.log").read_text()


can_limit = pytest.mark.skipif(
    "rate_limit_except_level" not in inspect.getsource(log),
    reason="this oslo.log can't limit: it reads an option that it has not",
)


@can_limit
def test_a_rate_limit_may_be_set_up_again(conf):
    conf.set_override("rate_limit_burst", 100)
    conf.set_override("rate_limit_interval", 1)
    for _ in range(2):
        logs.set_up(conf, "INFO")


@can_limit
def test_a_refused_reload_keeps_the_rate_limit(conf, tmp_path):
    file = tmp_path / "agent.conf"
    text = f"""\
[DEFAULT]
log_file = {conf.log_file}
rate_limit_burst = 1
rate_limit_interval = 600
"""
    file.write_text(text)
    argv = ["--config-file", str(file)]
    own = Configuration(argv)
    logs.set_up(own.conf, "INFO")
    file.write_text(f"{text}use_syslog = true\nsyslog_log_facility = no\n")
    with pytest.raises(StartError, match="syslog facility"):
        own.reload()
    for _ in range(3):
        LOG.warning("a line")
    lines = Path(conf.log_file).read_text().splitlines()
    assert len(lines) == 2
    assert "Logging rate limit" in lines[1]


LOGGING = """\
[loggers]
keys=root,mine
[handlers]
keys=h
[formatters]
keys=
[logger_root]
level=DEBUG
handlers=h
[logger_mine]
qualname=mine
propagate=0
handlers={handlers}
[handler_h]
class=StreamHandler
args=(sys.stderr,{end}
"""


@pytest.mark.parametrize(
    ("handlers", "end"),
    [
        pytest.param("h", "", id="a SyntaxError in a handler"),
        pytest.param("none", ")", id="a logger with no such handler"),
    ],
)
def test_whatever_the_library_raises_changes_nothing(
    conf, tmp_path, handlers, end
):
    file = tmp_path / "logging.conf"
    file.write_text(LOGGING.format(handlers=handlers, end=end))
    logs.set_up(conf, "WARNING")
    mine = logging.getLogger("mine")
    before = {one: logs._state(one) for one in logs._loggers()}
    conf.set_override("log_config_append", str(file))
    with pytest.raises(StartError, match="can't write the log"):
        logs.set_up(conf, "DEBUG")
    assert {one: logs._state(one) for one in logs._loggers()} == before
    mine.warning("a line")
    assert "a line" in Path(conf.log_file).read_text()


def test_an_error_that_is_handled_is_in_a_line_once(conf):
    logs.set_up(conf, "INFO")
    try:
        raise StartError("the reason")
    except StartError as error:
        LOG.warning("not done: %s", error)
    (line,) = Path(conf.log_file).read_text().splitlines()
    assert line.endswith(" not done: the reason")


def test_without_systemds_library_the_log_goes_to_stderr(
    conf, monkeypatch, capsys
):
    monkeypatch.setattr(oslo_handlers, "journal", None)
    conf.set_override("use_journal", override=True)
    logs.set_up(conf, "INFO")
    assert "use_journal has no effect" in capsys.readouterr().err


@pytest.mark.parametrize("roots_are_ours", [True, False])
def test_a_folder_that_is_missing_is_called_missing(tmp_path, roots_are_ours):
    conf = cfg.ConfigOpts()
    log.register_options(conf)
    file = tmp_path / "no" / "log"
    conf(["--log-file", str(file)], default_config_files=[])
    with pytest.raises(StartError, match=r"No such file or .*: /.*/no;"):
        logs.check(conf, roots_are_ours=roots_are_ours)
