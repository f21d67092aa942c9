"""Look at everything on the path of one port, each with a time limit."""

import dataclasses
import time
from collections.abc import Callable
from concurrent import futures
from functools import partial
from typing import Any

from ...privsep import names
from ...privsep.errors import AskError, sentence
from ..config.settings import Southbound
from ..core.selfcheck import answer_packet
from ..databases import SOUTHBOUND, VSWITCH, Databases
from ..errors import HaproxyError
from ..haproxy import counters, files, mapfile, render, runtime
from ..haproxy.inside import ALIVE_PATH
from ..monitor.problems import code_of
from ..reconcile.nova_addresses import NovaAddresses
from ..reconcile.site import Site
from ..threads import in_thread
from . import nova, rows, serving
from .facts import Common, Facts, Haproxy, Seen, Target, Unseen

# A call to the privileged daemon may wait behind those that provision.
_LIMIT_S = 8.0
_NOVA_S = 12
_ALIVE_S = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Gather:
    """Looks at the host and both databases, and changes nothing."""

    site: Site
    databases: Databases
    nova_addresses: NovaAddresses

    def common(self) -> Common:
        """Return what all paths on this host share."""
        site, settings = self.site, self.site.settings()
        vswitch_db, fleet = settings.vswitch.connection, site.haproxies.fleet
        addresses = self.nova_addresses.addresses
        found = _look(
            daemons=site.privileged.daemons,
            programs=site.privileged.look_at_programs,
            interfaces=lambda: rows.interfaces(vswitch_db),
            nova=lambda: nova.attempts(settings.nova, addresses),
        )
        remote = ",".join(settings.southbound.remotes)
        public = settings.proxy_socket
        is_ours = site.haproxies.places.is_link_of_ours(public)
        read_s = self.databases.southbound_read_until_ms() / 1000
        return Common(
            status=site.status.as_dict(),
            chassis=self.databases.snapshots.chassis,
            vswitch=self.databases.snapshots.vswitch,
            southbound=(remote, self.databases.problem(SOUTHBOUND)),
            vswitch_db=(vswitch_db, self.databases.problem(VSWITCH)),
            keys=_keys(settings.southbound),
            read_age_s=max(0.0, time.time() - read_s),
            gateway=self._haproxy(names.GATEWAY),
            gateway_socket=str(fleet.places.gateway_socket),
            foreign_socket="" if is_ours else str(public),
            **found,
        )

    def path(self, common: Common, target: Target) -> Facts:
        """Return all that concerns TARGET, except the request."""
        key, haproxies = target.network.network, self.site.haproxies
        file = haproxies.places.map(key)
        desired = self.site.desired(common.chassis, key)
        needed = desired or Unseen("it has no localport")
        facts = Facts(common, target, needed, map_file=str(file))
        calls: dict[str, Callable[[], Any]] = {
            "map_memory": lambda: runtime.read_map(haproxies.stats(key), file),
            "map_text": lambda: mapfile.parse_file(files.read(file)),
        }
        call, bridge = self.site.privileged, common.vswitch.bridge
        if not isinstance(common.daemons, Unseen):
            device = facts.tap.get("name", "")
            calls["host"] = lambda: call.inspect(key, device=device)
            hangs = common.daemons.get("ovs-vswitchd") == "silent"
            for name, packet in () if hangs else packets(facts).items():
                calls[name] = partial(call.trace, bridge, **packet)
        haproxy, found = self._haproxy(key), _look(_LIMIT_S, **calls)
        return dataclasses.replace(facts, haproxy=haproxy, **found)

    def request(self, facts: Facts, *, brief: bool) -> Facts:
        """Return FACTS with the answer to a request from inside.

        Nova answers it; if BRIEF, the gateway.
        """
        whole, alive = (serving.PATH, _NOVA_S), (ALIVE_PATH, _ALIVE_S)
        path, limit_s = alive if brief else whole
        key, source = facts.key, facts.target.address
        call = self.site.privileged.ask
        seen = _look(
            _LIMIT_S + limit_s,
            answer=lambda: call(
                key, source=source, path=path, timeout_s=limit_s
            ),
        )
        return dataclasses.replace(facts, path=path, **seen)

    def _haproxy(self, key: str) -> Haproxy:
        """Return how the haproxy of KEY (or "gateway") is."""
        config = self.site.haproxies.places.config(key)
        try:
            answer = self.site.haproxies.read(key, "show info")
            text = files.read(config)
        except (OSError, HaproxyError) as error:
            problem = sentence(error)
            if isinstance(error, FileNotFoundError | ConnectionError):
                problem = "no process listens on its stats socket"
            return Haproxy(str(config), problem=problem)
        pid = counters.info(answer, "Pid")[:9]  # int() refuses 5000 digits
        return Haproxy(
            str(config),
            in_file=render.digest_of(text),
            running=runtime.digest_in(answer, config),
            pid=int(pid) if pid.isdecimal() else 0,
        )


def elsewhere(common: Common, name: str) -> Seen:
    """Return what Southbound has by NAME, on any chassis."""
    remote, _ = common.southbound
    found: Seen = _look(it=lambda: rows.elsewhere(remote, name))["it"]
    return found


def _keys(southbound: Southbound) -> tuple[str, ...]:
    """Return OVN's options (ovn-trace(8)) for the files of SOUTHBOUND."""
    if not any(each.startswith("ssl:") for each in southbound.remotes):
        return ()
    return (
        f"--private-key={southbound.private_key}",
        f"--certificate={southbound.certificate}",
        f"--ca-cert={southbound.ca_cert}",
    )


def packets(facts: Facts) -> dict[str, dict[str, Any]]:
    """Return the packets to trace, by the name of the fact; pure."""
    target, own = facts.target, facts.target.port
    found = target.network.localport
    if found is None:
        return {}
    macs = {str(address): mac for address, mac in own.addresses}
    mac = macs.get(target.address, own.mac)
    there: dict[str, Any] = {
        "kind": "request",
        "in_port": facts.tap.get("ofport", 0),
        "vlan": own.tag if own.parent else 0,
        "mac": mac,
        "to_mac": found.mac,
        "source": target.address,
        "destination": target.metadata_address,
    }
    veth = facts.veth.get("ofport", 0)
    back = answer_packet(target.address, veth, mac=found.mac, to_mac=mac)
    made = {"there": there, "dhcp": {**there, "kind": "dhcp"}, "back": back}
    return {name: each for name, each in made.items() if each["in_port"] > 0}


def _look(
    limit_s: float = _LIMIT_S, **calls: Callable[[], Any]
) -> dict[str, Any]:
    """Return what each of CALLS returns, or Unseen; all run at once."""
    tasks = {name: in_thread(call) for name, call in calls.items()}
    done, _ = futures.wait(tasks.values(), limit_s)
    late = f"no answer within {limit_s:g} s"
    return {
        name: _outcome(task) if task in done else Unseen(late)
        for name, task in tasks.items()
    }


def _outcome(task: futures.Future[Any]) -> Any:
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, AskError):
        return Unseen(str(error), "OVNMD-306")
    code = code_of(error)
    return Unseen(sentence(error), "" if code == "OVNMD-202" else code)
