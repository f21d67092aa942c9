"""The archive for support: what is in it, and what never is."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import string
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import psutil
import pytest

from ovn_metadata.agent.commands import client, dump, dump_parts, status
from ovn_metadata.agent.core.masking import masker

RUNS = 1000
ODD = string.ascii_letters + string.digits + "/+=:;,.!?&*()[]{}<>|~^'\"\\ éß#%"
# Where a file may have a secret: {s} is the secret, {q} quoted for a URL.
PLACES = (
    "[DEFAULT]\nmetadata_proxy_shared_secret = {s}\n",
    "[DEFAULT]\nmetadata_proxy_shared_secret = {s}\nstate_path = /x/{s}/y\n",
    "[DEFAULT]\ntransport_url = rabbit://neutron:{q}@rabbit:5672/\n",
    "[DEFAULT]\ntransport_url = rabbit://u:{q}@h:1,u:{q}@h:2/v\n",
    "[database]\nconnection = mysql+pymysql://neutron:{q}@db/neutron\n",
    "[keystone_authtoken]\npassword = {s}\n",
    "[ovn]\novn_sb_connection = tcp:user:{q}@10.0.0.1:6642\n",
    "[ovs]\novsdb_connection = ssl://user:{q}@10.0.0.1:6640\n",
    "[DEFAULT]\nnova_metadata_host = admin:{q}@nova\n",
    "[DEFAULT]\nlog_dir = https://u:{q}@h/log\n",
    "[ovn_metadata_agent]\nmy_api_key = {s}\n[DEFAULT]\nlog_file = /{s}\n",
    "[agent]\nroot_helper = sudo --password={q} x\n",
    "[oslo_messaging_rabbit]\nrabbit_password={s}\n",
    "[DEFAULT]\nnova_client_priv_key = -----BEGIN PRIVATE KEY-----\n {l}\n"
    " -----END PRIVATE KEY-----\n",
    "[DEFAULT]\nnova_client_priv_key = -----BEGIN EC PRIVATE KEY----- {l}\n",
)
# What a log, a unit or a command line may have of it.
LINES = (
    "2026-11-28 12:00:00.000 7 INFO ovn_metadata [-] {s}",
    "2026-11-28 12:00:00.000 7 ERROR [-] {j}: must be a path",
    "Environment=X={s}",
    "GET /{q}?x={s}",
    "{sig}",
    "10.0.0.5 i-1|p-1|{sig}",
    "X-Instance-ID-Signature: {sig}",
)


def drawn(random_: random.Random) -> tuple[str, str]:
    """Return a secret and the line of a key."""
    size = random_.randint(6, 40)
    secret = "s" + "".join(random_.choices(ODD, k=size)) + "t"
    key = "".join(random_.choices(string.ascii_letters + "+/", k=64))
    return secret.replace("$", "S"), key


def source(**given: object) -> argparse.Namespace:
    return argparse.Namespace(
        **{"socket": Path("/nowhere"), "config_dir": [], **given}
    )


def answer(text: str) -> dict[str, object]:
    """Return what the agent could answer, with TEXT somewhere."""
    return {text: [{"reason": text}], "ready": True}


def test_1000_drawn_dumps_have_no_secret_and_no_signature(tmp_path):
    random_ = random.Random(11)
    file, log = tmp_path / "agent.conf", tmp_path / "agent.log"
    leaks = []
    for number in range(RUNS):
        secret, key = drawn(random_)
        is_quoted = number % 2 == 1
        if not is_quoted:  # as no URL can have it, and operators write it
            secret = secret.replace(" ", "_")
        signature = hashlib.sha256(secret.encode()).hexdigest()
        words = {
            "s": secret,
            "q": quote(secret, safe="/") if is_quoted else secret,
            "j": json.dumps(secret),
            "l": key,
            "sig": signature,
        }
        place = random_.choice(PLACES)
        file.write_text(place.format(**words))
        log.write_text("".join(f"{x.format(**words)}\n" for x in LINES))
        parts, secrets, _ = dump_parts.parts(source(config_file=[str(file)]))
        chosen: dump_parts.Parts = {
            "configuration.txt": parts["configuration.txt"],
            "refusal.txt": parts.get("refusal.txt", str),
            "agent.log": partial(dump_parts.tail, log),
            "status.json": partial(answer, signature),
        }
        if "{s}" in place or "{q}" in place:
            line = random_.choice(LINES).format(**words)
            chosen["answer.json"] = partial(answer, line)
        else:
            log.write_text(f"{signature} {key}\n")
        ends = time.monotonic() + 20
        texts, missing = dump.read(chosen, masker(secrets), ends)
        assert missing == []
        everything = "\n".join(texts.values())
        forms = {secret, quote(secret), json.dumps(secret)[1:-1], signature}
        leaks += [
            (place, form)
            for form in (*forms, key, key[-30:])
            if form in everything
        ]
    assert leaks == []


@pytest.fixture
def made():
    """Return a function that makes a dump without an agent."""

    def make(*argv: str) -> int:
        return status.main(["--socket", "/nowhere", "dump", *argv])

    return make


def refused(folder: Path, made, capsys) -> str:
    err: str
    before = sorted(folder.parent.rglob("*"))
    assert made(str(folder)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert sorted(folder.parent.rglob("*")) == before
    return err


def test_a_folder_that_is_none_or_a_link_is_refused(made, tmp_path, capsys):
    target, link, file = (tmp_path / name for name in ("d", "l", "f"))
    target.mkdir()
    link.symlink_to(target)
    file.touch()
    assert "link" in refused(link, made, capsys)
    assert "is no folder" in refused(file, made, capsys)
    assert "No such file" in refused(tmp_path / "no", made, capsys)
    control = refused(tmp_path / "\x1b[2J\udcff", made, capsys)
    assert "\x1b" not in control


def test_a_file_or_link_with_its_name_stays_as_it_is(
    made, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(time, "strftime", lambda *_: "now")
    name = f"ovn-metadata-{os.uname().nodename}-now.tar.gz"
    (tmp_path / name).symlink_to(tmp_path / "target")
    assert "File exists" in refused(tmp_path, made, capsys)
    assert not (tmp_path / "target").exists()


def test_an_interrupted_dump_leaves_no_file(made, tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dump, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_is_a_link_or_has_a_second_name_is_not_read(tmp_path):
    log, link, second = (tmp_path / name for name in ("a", "b", "c"))
    log.write_text("x\n")
    assert dump_parts.tail(log) == "x\n"
    link.symlink_to(log)
    with pytest.raises(OSError, match="symbolic links"):
        dump_parts.tail(link)
    second.hardlink_to(log)
    with pytest.raises(OSError, match="other names"):
        dump_parts.tail(log)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="no file"):
        dump_parts.tail(tmp_path / "fifo")


def test_only_whole_lines_of_a_long_log_are_read(tmp_path):
    log = tmp_path / "log"
    log.write_text("0123456\n" * 200_000 + "end\n")
    text = dump_parts.tail(log)
    assert len(text) <= 1024 * 1024
    assert set(text.splitlines()) == {"0123456", "end"}


def test_a_part_that_hangs_or_fails_or_is_huge_costs_no_other():
    hung = threading.Event()
    parts: dump_parts.Parts = {
        "hangs": hung.wait,
        "fails": lambda: 1 / 0,
        "huge": lambda: "x" * 5_000_000,
        "good": lambda: "text",
    }
    ends = time.monotonic() + 2
    texts, missing = dump.read(parts, lambda text: text, ends)
    hung.set()
    assert sorted(missing) == ["fails", "hangs"]
    assert "fails: division by zero" in texts[dump.MISSING]
    assert "hangs: not there after 7 s; try again" in texts[dump.MISSING]
    assert len(texts["huge"]) <= 4 * 1024 * 1024
    assert texts["good"] == "text"


def test_a_status_that_was_had_is_in_it(tmp_path, monkeypatch):
    """An agent that is busy with its other answers may be late."""
    answers = [{"chassis": "c1", "ready": True}]

    def ask(*_: object, **_options: object) -> dict[str, object]:
        if not answers:
            raise TimeoutError("no answer within 1.5 s")
        return answers.pop()

    monkeypatch.setattr(client, "ask", ask)
    source, _ = client.source_options().parse_known_args(
        ["--socket", str(tmp_path / "status.sock")]
    )
    found, _, chassis = dump_parts.parts(source)
    assert chassis == "c1"
    assert found["status.json"]()["chassis"] == "c1"


@pytest.mark.skipif(os.geteuid() != 0, reason="it gives a file away")
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("owner", [0, 1])
def test_a_running_agents_files_count_if_root_alone_writes_them(
    tmp_path, monkeypatch, folder, owner
):
    """Any program of the agent's user may have answered, and this is root."""
    file = tmp_path / "agent.conf"
    file.touch()
    os.chown(tmp_path if folder else file, owner, -1)
    given = f"--config-dir={tmp_path}" if folder else f"--config-file={file}"
    words = ["/usr/bin/ovn-metadata-agent", given]
    process = SimpleNamespace(cmdline=lambda: words)
    monkeypatch.setattr(psutil, "Process", lambda _: process)
    found = dump_parts._running({"pid": 1})
    assert found == ([given] if owner == 0 else [])
