"""OVN Southbound, Open vSwitch's database, and the chassis' name."""

from __future__ import annotations

from collections.abc import Iterator

from .. import wait_for
from ..case import ready
from ..daemons import run
from ..ovn import SB_REMOTE
from ..tls import Authority, running, server
from .scene import Scene
from .table import fault

_SSL = "ssl:127.0.0.1:6651"


@fault("101", cuts=False, slow=True)
def southbound_down(scene: Scene) -> Iterator[None]:
    """OVN Southbound does not run: what is here is served on."""
    scene.box.ovn.kill("sb")
    yield
    scene.box.ovn.start("sb")


@fault("101", cuts=False, slow=True)
def southbound_silent(scene: Scene) -> Iterator[None]:
    """OVN Southbound hangs, and nothing closes the connection."""
    scene.box.ovn.freeze("sb")
    yield
    scene.box.ovn.thaw("sb")


@fault("101", cuts=False, slow=True)
def southbound_certificate_of_a_stranger(scene: Scene) -> Iterator[None]:
    """The certificate of OVN Southbound is not by ovn_sb_ca_cert."""
    box = scene.box
    ours = Authority(box.folder / "sb-tls")
    other = Authority(box.folder / "sb-tls", "other")
    us, them = ours.issue("us"), other.issue("them")
    options = {
        ("ovn", "ovn_sb_connection"): _SSL,
        ("ovn", "ovn_sb_private_key"): str(us.key),
        ("ovn", "ovn_sb_certificate"): str(us.certificate),
        ("ovn", "ovn_sb_ca_cert"): str(ours.certificate),
    }
    relay = server(
        box.folder,
        "6651:127.0.0.1",
        them,
        ours.certificate,
        database=f"relay:OVN_Southbound:{SB_REMOTE}",
    )
    box.agent.stop()
    with running(relay):
        box.agent.configure(options)
        box.agent.start()
        yield
        box.agent.configure({("ovn", "ovn_sb_connection"): SB_REMOTE})
        box.agent.stop()
        ready(box)


@fault("102", slow=True)
def vswitch_database_down(scene: Scene) -> Iterator[None]:
    """Open vSwitch's database does not run.

    Without it ovs-vswitchd forwards nothing in its userspace datapath.
    """
    scene.box.ovn.kill("ovsdb-server")
    yield
    scene.box.ovn.start("ovsdb-server")


@fault("102", cuts=False, slow=True)
def vswitch_database_hangs(scene: Scene) -> Iterator[None]:
    """Open vSwitch's database hangs."""
    scene.box.ovn.freeze("ovsdb-server")
    yield
    scene.box.ovn.thaw("ovsdb-server")


def _restarted(scene: Scene, *vsctl: str) -> Iterator[None]:
    """Change the name: the agent ends, and its service starts it again."""
    box = scene.box
    box.ovn.freeze("ovn-controller")
    box.ovn.vsctl(*vsctl)
    wait_for(
        lambda: not box.agent.running, timeout_s=60, what="end of the agent"
    )
    box.agent.start()
    yield
    name = f"external_ids:system-id={box.ovn.system_id}"
    box.ovn.vsctl("set", "Open_vSwitch", ".", name)
    box.ovn.thaw("ovn-controller")

    def ready() -> bool:
        box.agent.start()  # unless it still runs
        return box.agent.status().returncode == 0

    wait_for(ready, timeout_s=60, interval_s=0.3, what="the agent, ready")


@fault("103", "104", cuts=False, slow=True)
def system_id_removed(scene: Scene) -> Iterator[None]:
    """The chassis has no name any more."""
    what = ("remove", "Open_vSwitch", ".", "external_ids", "system-id")
    yield from _restarted(scene, *what)


@fault("104", "106", cuts=False, slow=True)
def system_id_changed(scene: Scene) -> Iterator[None]:
    """The chassis' name is not the one that ovn-controller has."""
    what = ("set", "Open_vSwitch", ".", "external_ids:system-id=new")
    yield from _restarted(scene, *what)


@fault("104", "106", cuts=False)
def no_chassis_row(scene: Scene) -> Iterator[None]:
    """ovn-controller was stopped for good: its rows and flows are gone."""
    box = scene.box
    run("ovn-appctl", "-t", "ovn-controller", "exit")
    box.ovn.daemons["ovn-controller"].wait()
    wait_for(
        lambda: not box.ovn.sb.select("Chassis"),
        timeout_s=60,
        what="a Southbound without the chassis",
    )
    yield
    box.ovn.start("ovn-controller")
