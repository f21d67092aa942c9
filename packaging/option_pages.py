"""Write the sample configuration, and the pages of options and metrics.

They are made of agent/config/settings.py and agent/metrics/catalog.py, where
each is declared once. `make options` runs this; a unit test fails while a
file is stale.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from ovn_metadata.agent.config import settings
from ovn_metadata.agent.config.settings import IGNORED, Option, all_options
from ovn_metadata.agent.metrics.catalog import KINDS, PREFIX

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "etc/ovn-metadata-agent/agent.conf.sample"
PAGE = ROOT / "docs/reference/options.md"
METRICS = ROOT / "docs/reference/metrics.md"
# Around the table in that page; the rest is written by hand.
MARKS = "<!-- table -->\n", "<!-- end -->\n"
WIDTH = 79

HEAD = """\
Sample configuration of ovn-metadata-agent: every option and its default.
Copy it to /etc/ovn-metadata-agent/agent.conf (owned by root, group
ovn-metadata, mode 0640: it holds a secret).

Sections and names are those of Neutron's agent, so its files can be used as
they are: --config-file and --config-dir may be given several times, and what
stands later takes precedence. Options and sections that are not listed here
are ignored. Without any --config-file these are read, where they exist:
  /etc/neutron/neutron.conf, /etc/neutron/neutron-ovn-metadata-agent.conf,
  /etc/ovn-metadata-agent/agent.conf
and without any --config-dir, also beside a --config-file, the *.conf in
  /etc/neutron.conf.d, /etc/neutron-ovn-metadata-agent.conf.d
(each of those in ~/.neutron, ~, /etc/neutron or /etc, the first that has
it). OS_<SECTION>__<OPTION> in the environment takes precedence over files.

In a value, "$name" stands for the value of another option, "$$" for "$". A
value that can't be used stops the agent with one line that says where it
stands and what is allowed. Paths become a part of haproxy's configuration,
so only some characters are allowed in them.

After SIGHUP (systemctl reload) the agent reads its files again. Changes are
in force at once, except of options that need a restart: the log names those.
With a bad value everything stays as it was.
"""

# oslo.log's options, of which these are the usual ones.
LOG = (
    ("debug", "false", "Whether messages of level DEBUG are logged."),
    (
        "log_file",
        "",
        "The file of the log. Without it and log_dir the log goes to stderr.",
    ),
    ("log_dir", "", "The folder of a log_file with a relative path."),
    ("use_syslog", "false", "Whether the log goes to syslog."),
    ("use_journal", "false", "Whether the log goes to systemd's journal."),
    ("use_stderr", "false", "Whether the log goes to stderr beside a file."),
    (
        "log_config_append",
        "",
        "A file for Python's logging.config, in place of the options above.",
    ),
)

SECTIONS = {
    "DEFAULT": "",
    "ovs": "",
    "ovn": "",
    "AGENT": "Neutron's files also have it as [agent], which is the same.",
    "privsep": "",
    "metadata_rate_limiting": "At most so many requests in so many seconds.",
    "metadata_haproxy": "Timeouts of the networks' haproxies.",
    "ovn_metadata_agent": "What Neutron's agent does not have.",
}

PAGE_HEAD = """\
# Options

Written by `make options` from `agent/config/settings.py`; do not edit.
How files are found and combined is at the top of
[agent.conf.sample](../../etc/ovn-metadata-agent/agent.conf.sample); what a
refusal looks like is in [bad-input.md](bad-input.md); what root runs, and as
which user, is in
[privileged.conf](../../etc/ovn-metadata-agent/privileged.conf).

A changed value is in force after a reload (SIGHUP), except where the last
column says "restart".
"""


def helps() -> dict[Option, str]:
    """Return each option's help: the text below its field."""
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(settings)).body:
        if isinstance(node, ast.ClassDef):
            for field, text in zip(node.body, node.body[1:], strict=False):
                match field, text:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(words))),
                    ):
                        found[node.name, name] = " ".join(words.split())
    return {
        option: found[group.__name__, field]
        for group, field, option in all_options()
    }


def render_sample() -> str:
    """Return the text of the sample."""
    lines = [f"# {line}".rstrip() for line in HEAD.splitlines()]
    for section, words in SECTIONS.items():
        lines += ["", ""]
        lines += _comment(words)
        lines += [f"[{section}]"]
        for option, text in _of(section):
            more = [f"Must be {option.value.allowed}."]
            more += [f"Old name: {option.old_name}."] * bool(option.old_name)
            more += ["A change needs a restart."] * option.restart
            lines += ["", *_comment(text), *_comment(" ".join(more))]
            lines += [f"#{option.name} = {option.default}".rstrip()]
        if section == "DEFAULT":
            for name, default, text in LOG:
                lines += ["", *_comment(text), f"#{name} = {default}".rstrip()]
        if section in IGNORED:
            lines += ["", *_comment(_ignored(section))]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    lines = textwrap.wrap(text, WIDTH - 2, break_on_hyphens=False)
    return [f"# {line}" for line in lines]


def _of(section: str) -> Iterator[tuple[Option, str]]:
    for option, text in helps().items():
        if option.section == section:
            yield option, text


def _ignored(section: str) -> str:
    return f"Accepted and not used: {', '.join(IGNORED[section])}."


def render_page() -> str:
    """Return the text of the page."""
    lines = [PAGE_HEAD]
    for section, words in SECTIONS.items():
        lines += [f"## [{section}]", ""]
        lines += [words, ""] if words else []
        lines += [_row("option", "default", "must be", "what it is for", "")]
        lines += [_row(*["---"] * 5)]
        for option, text in _of(section):
            old = f" (old name: {option.old_name})" if option.old_name else ""
            lines += [
                _row(
                    f"`{option.name}`{old}",
                    f"`{option.default}`" if option.default else "empty",
                    option.value.allowed,
                    text,
                    "restart" if option.restart else "",
                )
            ]
        if section == "DEFAULT":
            lines += ["", "The log's, of which these are the usual ones:", ""]
            lines += [_row("option", "default", "what it is for")]
            lines += [_row(*["---"] * 3)]
            lines += [
                _row(f"`{name}`", f"`{default}`" if default else "empty", text)
                for name, default, text in LOG
            ]
        if section in IGNORED:
            lines += ["", _ignored(section)]
        lines += [""]
    return "\n".join(lines).rstrip() + "\n"


def render_metrics() -> str:
    """Return the text of the metrics' page, its table written again."""
    before, _, rest = METRICS.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    lines = [_row("metric", "type", "labels", "what it is")]
    lines += [_row(*["---"] * 4)]
    for kind in KINDS.values():
        labels = ", ".join(f"`{label}`" for label in kind.labels)
        name = f"`{PREFIX}{kind.name}`"
        lines += [_row(name, kind.type, labels, kind.help)]
    table = "\n".join(lines) + "\n"
    return f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def pages() -> Iterable[tuple[Path, str]]:
    """Return the files, each with its text."""
    return (
        (SAMPLE, render_sample()),
        (PAGE, render_page()),
        (METRICS, render_metrics()),
    )


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text)
