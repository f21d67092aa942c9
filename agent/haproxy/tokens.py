"""Session tokens (AWS' IMDSv2): the keys of instances, and haproxy's rules.

A token is when it expires, and the HMAC of that by the key of its instance.
Nothing is kept: every haproxy that has the instance in its map, on whatever
host, checks it alike.
"""

import base64
import functools
import hashlib
import hmac

from . import answers

PATH = "/latest/api/token"
HEADER = "X-aws-ec2-metadata-token"
TTL_HEADER = f"{HEADER}-ttl-seconds"
_LONGEST_S = 6 * 60 * 60
# Clocks of hosts differ. One that was set back must not make a token live on.
_CLOCKS_S = 60
_ROUNDS = 100_000

# 1 to 21600.
_SECONDS = "'^([1-9][0-9]{0,3}|1[0-9]{4}|20[0-9]{3}|21[0-5][0-9]{2}|21600)$'"

_ONLY_PUT = "Get a token with PUT."
_NOT_FORWARDED = "A request that came through a proxy gets no token."
_BAD_TTL = f"{TTL_HEADER} must be 1 to {_LONGEST_S}."
NEEDED = f"Send a token in {HEADER}: PUT {PATH} answers one."
REFUSED = "The token is not this instance's, or has expired."


def key(secret: str, instance: str) -> str:
    """Return the key of INSTANCE as haproxy takes it, in base64.

    An instance has tokens and its own id. They must not make it easy to find
    the SECRET of all instances by trying words.
    """
    digest = hmac.digest(_slow(secret), instance.encode(), "sha256")
    return base64.b64encode(digest).decode()


@functools.lru_cache(1)
def _slow(secret: str) -> bytes:
    salt = b"ovn-metadata-agent's tokens"
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), salt, _ROUNDS)


def refuse(status: int, reason: str, condition: str) -> str:
    """Return a rule that refuses: haproxy counts "deny", but not "return"."""
    return f"http-request deny {answers.text(status, reason)} {condition}"


def rules(forwarded: str) -> list[str]:
    """Return the rules for an instance that may have tokens.

    A request with a good one is let through by the first of them: no rule
    behind them is about it. A request for a token is answered, unless it is
    FORWARDED.
    """
    when, right = "var(txn.expires)", "right signed lives !asks_token"
    mac = f"http-request set-var(txn.mac) {when},hmac(sha256,txn.key),ub64enc"
    return [
        "http-request set-var(txn.key) var(txn.identity),field(6,|)",
        "http-request set-var(txn.expires) var(txn.token),field(1,.)",
        mac,
        f"acl right {when},concat(.,txn.mac),secure_memcmp(txn.token)",
        "acl signed var(txn.mac) -m found",
        "acl lives date(),neg,add(txn.expires) -m int "
        f"1:{_LONGEST_S + _CLOCKS_S}",
        f"acl asks_token path {PATH}",
        f"http-request allow if {right}",
        refuse(405, _ONLY_PUT, "hdr Allow PUT if asks_token !{ method PUT }"),
        refuse(403, _NOT_FORWARDED, f"if asks_token {forwarded}"),
        refuse(
            400,
            _BAD_TTL,
            f"if asks_token !{{ var(txn.ttl) -m reg {_SECONDS} }}",
        ),
        # As text: HMAC would read a number as eight bytes.
        "http-request set-var(txn.expires) date(),add(txn.ttl),concat() "
        "if asks_token",
        f"{mac} if asks_token",
        "http-request return status 200 content-type text/plain "
        f'lf-string "%[{when}].%[var(txn.mac)]" '
        f"hdr {TTL_HEADER} %[var(txn.ttl)] if asks_token",
    ]
