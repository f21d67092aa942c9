"""What haproxy answers itself: each answer says why, and so does the log.

The reason is the body, and a header, which the other haproxy and the log
take it from. A body of Nova's stays as it is.
"""

from collections.abc import Mapping

REASON = "X-OVN-Metadata-Reason"
# It keeps the reason for the log.
RULE = (
    f"http-after-response set-var(txn.why) res.fhdr({REASON}) "
    "if { status ge 400 }"
)
# haproxy's own pages name the status only. What it can't parse gets one of
# those: they are fixed in its program.
_OWN = {
    400: "haproxy can't process this request.",
    408: "The request did not arrive in time.",
    500: "haproxy can't process this request, or its answer.",
}
NETWORK = {
    **_OWN,
    502: "The gateway of this host gave no complete answer.",
    503: "The gateway of this host does not answer.",
    504: "Nova, or the gateway of this host, did not answer in time.",
}
GATEWAY = {
    **_OWN,
    502: "Nova gave no complete answer.",
    503: "No Nova metadata API answers.",
    504: "Nova did not answer in time.",
}
# Leave out the rules that are about errors only.
GOOD = "http-response allow if { status lt 400 }"


def text(status: int, reason: str, *, retry_after_s: int = 0) -> str:
    """Return the arguments of a rule that answers with STATUS and REASON."""
    retry = f" hdr Retry-After {retry_after_s or 1}"
    return (
        f'status {status} content-type text/plain string "{reason}\\n" '
        f'hdr {REASON} "{reason}"{retry * (status in (429, 503))}'
    )


def refuse(status: int, reason: str, condition: str) -> str:
    """Return the rule that answers with STATUS where CONDITION is so."""
    return f"http-request return {text(status, reason)} {condition}"


def pages(reasons: Mapping[int, str]) -> list[str]:
    """Return the lines that replace haproxy's pages for errors."""
    return [f"http-error {text(*reason)}" for reason in reasons.items()]
