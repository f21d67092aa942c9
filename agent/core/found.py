"""What a reconcile found broken, in words."""

import re
from collections.abc import Iterable

# What a reconcile reports as changed -> what had happened, if no row and no
# option had changed. The first pattern that fits counts; "" is a consequence.
_WORDS = (
    (r"namespace", "namespace gone"),
    (r"veth", "veth gone"),
    (r"port", "port not on the bridge"),
    (r"port again", "port not as it should be"),
    (r"program", "haproxy not running under supervisord"),
    (r"hang", "haproxy did not answer"),
    (r"configuration", "haproxy's configuration changed"),
    (r"map file", "map file changed"),
    (r"map", "map in haproxy changed"),
    (r"reload", ""),
    (r"up lo", "lo down"),
    (r"up .*", "veth down"),
    (r"(mac|mtu|alias) (.*)", r"\1 of \2 changed"),
    (r"sysctl (.*)", r"sysctl \1 changed"),
    (r"transmit checksum", "checksum offload changed"),
    (r"\+(\d+) (neighbours|hosts)", r"\1 \2 gone"),
    (r"-(\d+) (neighbours|hosts)", r"\1 foreign \2"),
    (r"routes (.*)", r"routes of \1 gone"),
    (r"\+(.*/.*)", r"address \1 gone"),
    (r"-(.*/.*)", r"foreign address \1"),
)
# If one of these is gone, all but the haproxy's own things is gone too.
_WHOLE = ("namespace", "veth")
_APART = frozenset({"hang", "configuration", "map file", "map"})


def found(changes: Iterable[str]) -> list[str]:
    """Return what was broken, if CHANGES were made to set it right.

    A reload alone is nothing: a haproxy that is being reloaded looks like one
    that has to be.
    """
    given = [*dict.fromkeys(changes)]
    for whole in _WHOLE:
        if whole in given:
            given = [each for each in given if each in {whole, *_APART}]
            break
    return [words for change in given if (words := _in_words(change))]


def _in_words(change: str) -> str:
    for pattern, words in _WORDS:
        if match := re.fullmatch(pattern, change):
            return match.expand(words)
    return change
