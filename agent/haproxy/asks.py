"""Count what each instance asks for, in its entry of the table `sources`.

Each condition has a counter of its own, `gpc` with a number.
"""

from __future__ import annotations

import itertools

from . import answers

# The first counters of the table are those of `limits`.
_FIRST = 3
EXPIRE_S = 24 * 60 * 60
_AGENT = "req.fhdr(user-agent) -m beg -i"
# Paths of OpenStack's metadata, and those of EC2's. A version is a date.
PATHS = {
    "meta_data": "path_end /meta_data.json",
    "user_data": "path_end /user_data",
    "vendor_data": "path_end /vendor_data.json /vendor_data2.json",
    "network_data": "path_end /network_data.json",
    "password": "path_end /password",
    "ec2": "path_beg /latest/ /1 /2",
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
    "forwarded": "req.hdr(x-forwarded-for) -m found } || "
    "{ req.hdr(forwarded) -m found"
}
STATUSES = {"404": "status 404", "429": "status 429"}
_OF_REQUESTS = {**PATHS, **AGENTS, **FORWARDED}
NAMES = [*_OF_REQUESTS, *STATUSES]
STORED = f"http_req_cnt,http_err_cnt,http_fail_cnt,gpc({_FIRST + len(NAMES)})"


def rules(source: int) -> list[str]:
    """Return the rules that count; SOURCE is the stick counter.

    They come before headers are removed.
    """
    number = itertools.count(_FIRST)
    return [
        *(
            f"http-request sc-inc-gpc({next(number)},{source}) "
            f"if {{ {condition} }}"
            for condition in _OF_REQUESTS.values()
        ),
        answers.GOOD,
        *(
            f"http-response sc-inc-gpc({next(number)},{source}) "
            f"if {{ {condition} }}"
            for condition in STATUSES.values()
        ),
    ]
