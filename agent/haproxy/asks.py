"""Count what each instance asks for, in its entry of the table `sources`.

Each condition has a counter of its own, `gpc` with a number. haproxy itself
counts requests, and answers with 4xx and 5xx that it did not give itself.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from . import answers

# The first counters of the table are those of `limits`.
_FIRST = 3
EXPIRE_S = 24 * 60 * 60
# The table, the key of all addresses that no instance has, and the command
# whose answer `parse` reads.
TABLE = "sources"
COMMAND = f"show table {TABLE}"
NOBODY = "unknown-addresses"
# Entries that such a table has at most: 10k, in haproxy's units.
MOST = 10 * 1024

# An instance's id, in any table, and what its entry has. A haproxy that was
# broken into may answer anything.
_ENTRY = re.compile(r"^0x[0-9a-f]+: key=([A-Za-z0-9_.:-]{1,255}) .*", re.M)
_NUMBER = re.compile(r" (exp|http_[a-z]+_cnt|gpc\d{1,2})=(\d{1,10})\b")
_PATH = "var(txn.path) -m"
_AGENT = "var(txn.agent) -m beg -i"
# Paths of OpenStack's metadata, and those of EC2's. A version is a date.
PATHS = {
    "meta_data": f"{_PATH} end /meta_data.json",
    "user_data": f"{_PATH} end /user_data",
    "vendor_data": f"{_PATH} end /vendor_data.json /vendor_data2.json",
    "network_data": f"{_PATH} end /network_data.json",
    "password": f"{_PATH} end /password",
    "ec2": f"{_PATH} beg /latest/ /1 /2",
}
AGENTS = {
    "cloud-init": f"{_AGENT} cloud-init",
    "cloudbase-init": f"{_AGENT} cloudbase-init",
    "ignition": f"{_AGENT} ignition",
    "curl": f"{_AGENT} curl",
    "python": f"{_AGENT} python",
    "go": f"{_AGENT} go-http-client",
}
# Somebody sent the request for somebody else: by mistake, or by a trick.
FORWARDED = {
    "forwarded": "req.fhdr(x-forwarded-for) -m found } || "
    "{ req.fhdr(forwarded) -m found"
}
STATUSES = {"404": "status 404", "429": "status 429"}
_OF_REQUESTS = {**PATHS, **AGENTS, **FORWARDED}
NAMES = [*_OF_REQUESTS, *STATUSES]
# The counters of `shield` come next, if there are any.
NEXT = _FIRST + len(NAMES)
SHIELD = (
    "forwarded_requests",
    "requests_without_token",
    "requests_with_bad_token",
)
STORED = "http_req_cnt,http_err_cnt,http_fail_cnt"


def rules(source: int) -> list[str]:
    """Return the rules that count; SOURCE is the stick counter.

    They come before headers are removed.
    """
    number = itertools.count(_FIRST)

    def counts(event: str, conditions: Iterable[str]) -> Iterable[str]:
        for condition in conditions:
            count = f"sc-inc-gpc({next(number)},{source})"
            yield f"{event} {count} if {{ {condition} }}"

    return [
        # What several conditions look at costs less in a variable.
        "http-request set-var(txn.path) path",
        "http-request set-var(txn.agent) req.fhdr(user-agent)",
        *counts("http-request", _OF_REQUESTS.values()),
        answers.GOOD,
        *counts("http-response", STATUSES.values()),
    ]


def entries(answer: str) -> dict[str, dict[str, int]]:
    """Return key -> its numbers, of the first MOST entries in ANSWER."""
    return {
        entry[1]: {name: int(n) for name, n in _NUMBER.findall(entry[0])}
        for entry in itertools.islice(_ENTRY.finditer(answer), MOST)
    }


def parse(answer: str, now: float) -> dict[str, dict[str, Any]]:
    """Return what the instances in ANSWER, which came at NOW, asked for.

    Instance -> "requests", "last_seen" (in s since the epoch), "forwarded",
    and counts by "paths", "clients" and "answers". What can't be parsed is
    ignored.
    """
    found = {
        key: _counted(numbers, now)
        for key, numbers in entries(answer).items()
        if numbers.get("http_req_cnt")
    }
    if NOBODY in found:  # the 404 of a rule is not counted
        del found[NOBODY]["answers"]
    return found


def _counted(numbers: Mapping[str, int], now: float) -> dict[str, Any]:
    counts = {
        name: numbers.get(f"gpc{number}", 0)
        for number, name in enumerate([*NAMES, *SHIELD], start=_FIRST)
    }
    requests = numbers["http_req_cnt"]
    # An entry lives for EXPIRE_S after its last request.
    idle_s = EXPIRE_S - numbers.get("exp", 0) / 1000
    refused = numbers.get("http_err_cnt", 0)
    refusals = {
        "404": counts["404"],
        "429": counts["429"] + numbers.get("gpc2", 0),
        "other 4xx": max(0, refused - counts["404"] - counts["429"]),
        "5xx": numbers.get("http_fail_cnt", 0),
    }
    shield = {name: counts[name] for name in SHIELD if counts[name]}
    return {
        "last_seen": int(now - max(0.0, idle_s)),
        "requests": requests,
        "paths": _with_rest("other", requests, PATHS, counts),
        "clients": _with_rest("other", requests, AGENTS, counts),
        "answers": _with_rest("good", requests, refusals, refusals),
        "forwarded": counts["forwarded"],
        **({"shield": shield} if shield else {}),
    }


def _with_rest(
    rest: str, total: int, names: Iterable[str], counts: Mapping[str, int]
) -> dict[str, int]:
    """Return the COUNTS of NAMES, and what is missing to TOTAL as REST."""
    found = {name: counts[name] for name in names}
    return {**found, rest: max(0, total - sum(found.values()))}
