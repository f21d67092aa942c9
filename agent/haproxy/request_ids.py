"""A request's id: in the answer, in both haproxies' logs, and at Nova.

The network's haproxy makes it, whatever an instance sends. The gateway takes
it as it comes, and makes one only for a client of its socket that sends none.
The same with "traceparent" (W3C), which has the same digits as the id; the
gateway makes it, since only Nova reads it.
"""

HEADER = "X-OpenStack-Request-ID"
TRACE = "traceparent"
_NEW = "req-%[uuid()]"
_LENGTH = 40  # of "req-" and a uuid


def network_rules() -> list[str]:
    """Return the rules of a network's haproxy, after X- was removed."""
    return [
        f"unique-id-format {_NEW}",
        f"unique-id-header {HEADER}",
        f"http-after-response set-header {HEADER} %[unique-id]",
    ]


def gateway_rules() -> list[str]:
    """Return the gateway's rules; they come before all that answer.

    They set the variable txn.id.
    """
    return [
        f"http-request set-header {HEADER} {_NEW} "
        f"unless {{ req.fhdr({HEADER}) -m len {_LENGTH} }}",
        f"http-request set-var(txn.id) req.fhdr({HEADER})",
    ]


def trace_rule() -> str:
    """Return the gateway's rule for requests that it passes on."""
    parts = ((4, 8), (13, 4), (18, 4), (23, 4), (28, 12))
    digits = [f"%[var(txn.id),bytes({at},{size})]" for at, size in parts]
    trace = f"00-{''.join(digits)}-{digits[4]}0001-01"
    condition = f"unless {{ req.fhdr({TRACE}) -m found }}"
    return f"http-request add-header {TRACE} {trace} {condition}"
