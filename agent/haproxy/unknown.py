"""Rules for requests from an address that is not in the network's map.

The address may be that of an instance whose port was bound a moment ago, or
while no agent ran. A boot that is answered 404 is lost: cloud-init takes it as
final. So a request is held, and the map is looked up again every half
second, until one of these is so:

- The address is in the map: the request is answered like any other.
- The agent has confirmed the maps, with rows that are newer than the request:
  404. It does so twice a second while it is well (`watches.confirmation`).
- Neither for some seconds: 503, and the instance may try again. cloud-init
  before 25.1 does not, but waits 10 s for its one answer.

haproxy can't wait for a map to change. It sends the request to itself, with
the source in the PROXY protocol, as often as needed ("retry-on"). An address
that has asked for two minutes, and was held eight times, is answered 404 at
once.
"""

from pathlib import Path

from . import answers, inside, shield

# How long requests are held. cloud-init before 25.1 waits 10 s.
_HELD_MS = 8000
_STEP_MS = 500
_MORE_STEPS = 2 * _HELD_MS // _STEP_MS  # than are needed: a step may fail
# The rows of a port may arrive this long after the instance's first request.
_ROWS_MS = 500
# Held at the same time: by one address, and in one network.
_HELD_PER_ADDRESS = 4
_HELD = 256
_ASKS_FOR_S = 120
# And at least so many of its requests were held: a clock that is set forward
# alone must not end a boot.
_ASKS = 8
# An address that has not asked for so long begins again.
_PAUSE_S = 30
TARPIT_S = 1

_UNKNOWN_INSTANCE = "No instance of this network has your address."
_NOT_YET = "The agent does not know yet whose address this is."
# When the request arrived, in ms since the epoch. No client can set it: what
# begins with X- is removed before.
ASKED = "X-OVN-Metadata-Asked"
# The client's address, as text: haproxy would write it again for each use.
ADDRESS = "var(sess.address)"
SET_ADDRESS = "tcp-request session set-var(sess.address) src,concat()"
_LATER = answers.text(503, _NOT_YET)
_SOCKET = "again.sock"
# The status that makes haproxy send a request to itself again.
_AGAIN = 425
# A key of the gateway's map, whose values are ms since the epoch. What was
# bound until then is in the maps of all networks that are no key themselves.
CONFIRMED = "confirmed"


def _hold_rules(*, shielded: bool) -> list[str]:
    """Return the rules of the backend `hold`.

    What can't be held, since it may not be repeated or since a bound is
    reached, is answered after a second (`timeout tarpit`), so that a loop of
    it costs nothing. From inside, the answer comes at once: it is about the
    map as it is now.
    """
    not_held = (
        "!METH_GET" + shielded * f" !{shield.ASKS_TOKEN}",
        "{ req.fhdr(content-length) -m int gt 0 }",
        "{ req.fhdr(transfer-encoding) -m found }",
        f"{{ sc_conn_cur(0) gt {_HELD_PER_ADDRESS} }}",
        f"{{ srv_conn(hold/again) ge {_HELD} }}",
    )
    too_long = (
        f"if {{ sc_get_gpc0(0) ge {_ASKS} }} "
        f"{{ date(),sub(txn.first) gt {_ASKS_FOR_S} }}"
    )
    return [
        answers.refuse(404, _UNKNOWN_INSTANCE, f"if {inside.CONDITION}"),
        "http-request track-sc0 src table strangers",
        "http-request sc-set-gpt0(0) date() if { sc_get_gpt0(0) eq 0 }",
        "http-request set-var(txn.first) sc_get_gpt0(0)",
        answers.refuse(404, _UNKNOWN_INSTANCE, too_long),
        *(
            f"http-request tarpit deny_{_LATER} if {condition}"
            for condition in not_held
        ),
        "http-request sc-inc-gpc0(0)",  # those that are held
        f"http-request set-header {ASKED} %[date(0,ms)]",
    ]


def sections(
    identity: str, gateway: str, network: str, *, shielded: bool
) -> str:
    """Return the sections that hold requests of NETWORK.

    IDENTITY is the rule that sets txn.identity, GATEWAY the server's address.
    """
    held = _hold_rules(shielded=shielded) + shielded * shield.hold_rules()
    rules = "\n".join(f"    {rule}" for rule in held)
    return f"""
backend hold
{rules}
    http-reuse never
    option http-server-close
    retries {_MORE_STEPS}
    retry-on {_AGAIN} conn-failure empty-response
    server again unix@{_SOCKET} send-proxy-v2

frontend again
    # In HTTP mode, a complete request does not wait for inspect-delay.
    mode tcp
    no log
    bind unix@{_SOCKET} accept-proxy mode 600
    {SET_ADDRESS}
    tcp-request inspect-delay {_STEP_MS}ms
    tcp-request content set-var(txn.identity) {identity} if WAIT_END
    tcp-request content switch-mode http if WAIT_END
    use_backend gateway if {{ var(txn.identity) -m found }}
    default_backend strangers

backend strangers
    stick-table type ipv6 size 10k expire {_PAUSE_S}s store gpt0,gpc0,conn_cur
    http-request set-header X-OVN-Network-ID {network}
    http-error {_LATER}
    retry-on conn-failure empty-response
    server gateway {gateway}
"""


def gateway_rules(map_file: Path) -> list[str]:
    """Return the gateway's rules that answer `strangers` and the agent.

    They come before all that count. MAP_FILE has what the agent confirmed.
    """
    asks = "{ var(txn.asked) -m found }"
    confirmed = "http-request set-var(txn.confirmed)"
    network = f"req.fhdr(X-OVN-Network-ID),map_str_int({map_file})"
    return [
        f"http-request set-var(txn.asked) req.fhdr({ASKED})",
        f"http-request set-log-level silent if {asks}",
        'http-request return status 200 content-type text/plain string "ok\\n"'
        f" if {{ var(txn.asked) -m str {inside.ALIVE} }}",
        f"{confirmed} str({CONFIRMED}),map_str_int({map_file},0) if {asks}",
        f"{confirmed} {network} if {asks} {{ {network} -m found }}",
        answers.refuse(
            404,
            _UNKNOWN_INSTANCE,
            f"if {asks} "
            f"{{ var(txn.confirmed),sub(txn.asked) ge {_ROWS_MS} }} "
            # A clock that was set back. (haproxy reads "ge -5" as "le 5".)
            f"{{ date(0,ms),add({_ROWS_MS}),sub(txn.confirmed) ge 0 }}",
        ),
        f"http-request return {_LATER} if {asks} "
        f"{{ date(0,ms),sub(txn.asked) ge {_HELD_MS - _STEP_MS} }}",
        answers.refuse(_AGAIN, _NOT_YET, f"if {asks}"),
    ]
