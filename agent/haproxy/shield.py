"""What keeps metadata from those who trick an instance into asking for it.

A request that came through a proxy is refused, or one without a session token
(see `tokens`). Which of it holds for an instance is in its entry of the map. A
network where all of it is off has none of these rules, and nothing in its map.
"""

from collections.abc import Iterable, Mapping

from ..config.settings import Settings, Shield
from ..model import Instance, MetadataNetwork, VifPort
from . import asks, inside, limits, tokens

# Each is counted in the process, and in the entry of the instance.
_FORWARDED, _WITHOUT, _BAD = range(len(asks.SHIELD))
_VARIABLES = [f"proc.{name}" for name in asks.SHIELD]
# The answer has the values of those that are not 0.
COMMAND = "; ".join(f"get var {variable}" for variable in _VARIABLES)

# Proxies add "Forwarded", "X-Forwarded-For" and others like it.
_ADDED = "req.hdr_names -m sub forwarded x-real-ip x-envoy-"
_PROXIED = "{ var(txn.forwarded) -m found }"
_REFUSED = "The request came through a proxy."
_FORWARDED_MODE = "var(txn.identity),field(3,|) -m str"
# OpenStack's own paths, if no part of them is one to resolve.
_OPENSTACK = "'^/openstack(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*/?$'"
_SENT = "{ var(txn.token) -m found }"
_MODE = "var(txn.identity),field(4,|) -m str"
# What goes along with a request that is held. No client can set these: what
# begins with X- is removed before. The gateway removes them.
_ALONG = {
    "forwarded": "X-OVN-Metadata-Forwarded",
    "token": "X-OVN-Metadata-Token",
    "ttl": "X-OVN-Metadata-TTL",
}
# It has no body, and may be repeated: so it is held as a GET is.
ASKS_TOKEN = f"{{ path {tokens.PATH} }}"


def is_on(shield: Shield, network: str) -> bool:
    """Return whether any of it may be on for an instance on NETWORK."""
    return shield.forwarded.on(network) | shield.tokens.on(network) != {"off"}


def entry(
    settings: Settings, network: str, up_at: Mapping[str, int], owner: Instance
) -> tuple[str, ...]:
    """Return the fields of OWNER on NETWORK in the map; () with all off.

    UP_AT is what the function `up_at` returns.
    """
    shield = settings.shield
    forwarded = shield.forwarded.of(network, owner.project)
    mode = shield.tokens.of(network, owner.project)
    if forwarded == mode == "off":
        return ()
    key = until = ""
    if mode != "off":
        key = tokens.key(settings.shared_secret, owner.instance)
    if shield.boot_window_s and owner.instance in up_at:
        until = str(up_at[owner.instance] + shield.boot_window_s)
    return forwarded, mode, until, key


def up_at(
    ports: Iterable[VifPort], installed: Mapping[str, int]
) -> dict[str, int]:
    """Return instance -> when the last of its PORTS came up.

    INSTALLED is that of `VswitchSnapshot`.
    """
    found: dict[str, int] = {}
    for port in ports:
        at = installed.get(port.parent or port.logical_port, 0)
        if at > found.get(port.instance, 0):
            found[port.instance] = at
    return found


def hop_limit(shield: Shield, desired: MetadataNetwork) -> int:
    """Return the hop limit of DESIRED: the largest of its instances'."""
    projects = {owner.project for owner in desired.instances.values()} or {""}
    return max(shield.hop_limit.of(desired.network, each) for each in projects)


def frontend_rules() -> list[str]:
    """Return the rules that come before headers are removed."""
    return [
        "http-request set-var(txn.forwarded) bool(true) "
        f"if {{ req.fhdr(via) -m found }} || {{ {_ADDED} }}",
        f"http-request set-var(txn.token) req.fhdr({tokens.HEADER})",
        f"http-request set-var(txn.ttl) req.fhdr({tokens.TTL_HEADER})",
    ]


def hold_rules() -> list[str]:
    """Return the rules for requests that are held."""
    return [
        f"http-request set-header {header} %[var(txn.{name})] "
        f"if {{ var(txn.{name}) -m found }}"
        for name, header in _ALONG.items()
    ]


def backend_rules() -> list[str]:
    """Return the rules for requests whose instance is known.

    They are the last of a backend: "allow" skips those that are left. The
    agent's own requests, from inside, need no token.
    """
    held = [
        f"http-request set-var(txn.{name}) req.fhdr({header})"
        for name, header in _ALONG.items()
    ]
    counted = f"if {_PROXIED} {{ {_FORWARDED_MODE} report enforce }}"
    forwarded = f"if {_PROXIED} {{ {_FORWARDED_MODE} enforce }}"
    return [
        *held,
        *_count(_FORWARDED, counted),
        tokens.refuse(403, _REFUSED, forwarded),
        f"http-request allow unless {{ {_MODE} optional required }} "
        f"!{inside.CONDITION}",
        *tokens.rules(_PROXIED),
        *_count(_BAD, f"if {_SENT}"),
        tokens.refuse(401, tokens.REFUSED, f"if {_SENT}"),
        "http-request set-var(txn.until) var(txn.identity),field(5,|)",
        "acl in_window date(),neg,add(txn.until) -m int gt 0",
        "acl has_window var(txn.until) -m int gt 0",
        f"acl of_openstack path -m reg {_OPENSTACK}",
        "http-request allow if in_window || of_openstack !has_window",
        *_count(_WITHOUT),
        tokens.refuse(401, tokens.NEEDED, f"if {{ {_MODE} required }}"),
    ]


def _count(number: int, condition: str = "") -> list[str]:
    variable = _VARIABLES[number]
    return [
        f"http-request set-var({variable}) var({variable},0),add(1) "
        f"{condition}".rstrip(),
        f"http-request sc-inc-gpc({asks.NEXT + number},{limits.SOURCE}) "
        f"{condition}".rstrip(),
    ]
