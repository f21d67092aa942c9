"""Bring the gateway, the haproxy between the networks' and Nova, up to date.

Like a network's reconcile: which event asked for it does not matter, and
doing it again changes nothing.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ...privsep import names
from .. import unixsocket
from ..config.settings import Nova, Settings
from ..errors import AgentError
from ..haproxy import files, render
from ..haproxy.public_socket import Access, public_access
from ..haproxy.render import NovaServer, Tls
from .nova_addresses import NovaHosts
from .site import Site

LOG = logging.getLogger(__name__)


class Gateway:
    """The gateway's configuration, certificates, program and socket."""

    def __init__(self, site: Site, nova_hosts: NovaHosts) -> None:
        self._settings = site.settings
        self._places = site.haproxies.places
        self._privileged = site.privileged
        self._haproxies = site.haproxies
        self._status = site.status
        self._nova_hosts = nova_hosts

    def ensure(self) -> bool:
        """Have the gateway run as the settings in force want it.

        Where no name of Nova's has an address, as it did before; if there
        is no before, without a server, so that it answers 503. Tells
        whether that is all, or to be looked at again soon. Raises
        AgentError and OSError; what ran before runs on.
        """
        settings = self._settings()
        access = public_access(
            settings.socket_mode, settings.proxy_gid, agent_gid=os.getegid()
        )
        servers, complete = self._nova_servers(settings.nova)
        self._status.waits_for(
            "nova hosts",
            "" if complete else "a look-up of nova_metadata_host",
        )
        if not (servers and complete) and self._run_as_it_was():
            if complete:
                hosts = ", ".join(e.host for e in settings.nova.endpoints)
                raise AgentError(
                    f"nova_metadata_host {hosts} can't be looked up"
                )
            return True
        tls = self._ensure_certificates(settings.nova)
        wanted = render.render_gateway(
            places=self._places,
            nova=servers,
            tls=tls,
            timeouts=settings.timeouts,
            share=settings.fair_share,
            threads=settings.gateway_threads,
            backlog=settings.backlog,
            socket_mode=access.mode,
        )
        changes = self._haproxies.ensure(names.GATEWAY, wanted, None)
        self._remove_certificates_but(tls)
        is_published = self._publish_socket(access, settings)
        self._status.served(names.GATEWAY, digest=wanted.digest)
        if changes:
            LOG.info("gateway serves changes=%s", ",".join(changes))
        return is_published

    def _run_as_it_was(self) -> bool:
        """Ensure that a gateway runs as it did; tell whether there was one."""
        file = self._places.config(names.GATEWAY)
        if file.exists():
            self._haproxies.run_as_it_is(names.GATEWAY)
            return True
        # That of an older version serves until we know what to write.
        return (self._places.old_folder / file.name).exists()

    def _nova_servers(self, nova: Nova) -> tuple[list[NovaServer], bool]:
        """Return the addresses of NOVA, and whether all are looked up."""
        servers = {}
        complete = True
        for endpoint in nova.endpoints:
            addresses = self._nova_hosts.addresses(endpoint.host)
            if addresses is None:
                complete = False
                continue
            name = "" if endpoint.host in addresses else endpoint.host
            for address in addresses:
                server = NovaServer(address, endpoint.port, name)
                servers[address, endpoint.port] = server
        return list(servers.values()), complete

    def _ensure_certificates(self, nova: Nova) -> Tls | None:
        """Have what https needs where haproxy's own user can read it."""
        if nova.protocol != "https":
            return None
        client = []
        if nova.client_cert is not None and nova.client_key is not None:
            client = [nova.client_cert, nova.client_key]  # in one file
        authority = []
        if nova.ca_cert is not None and not nova.insecure:
            authority = [nova.ca_cert]
        return Tls(
            insecure=nova.insecure,
            authority=self._ensure_pem("authority", authority),
            client=self._ensure_pem("client", client),
        )

    def _ensure_pem(self, kind: str, sources: list[Path]) -> Path | None:
        if not sources:
            return None
        # Comments in it may be in any encoding.
        text = "".join(
            file.read_text("latin-1").rstrip("\n") + "\n" for file in sources
        )
        path = self._places.certificate(kind, text)
        files.write(path, text)
        return path

    def _remove_certificates_but(self, tls: Tls | None) -> None:
        folder = self._places.read_folder(names.GATEWAY)
        for other in folder.glob("nova-*.pem"):
            if tls is None or other not in (tls.authority, tls.client):
                other.unlink()

    def _publish_socket(self, access: Access, settings: Settings) -> bool:
        """Have the gateway's socket, with its group, under Neutron's name.

        The gateway makes its socket in a folder of the fleet's; the folder
        that Neutron's name is in is not the fleet's to write. Tells whether
        the name was to be had.
        """
        target = self._places.public_socket(
            mode=access.mode, backlog=settings.backlog
        )
        if target.lstat().st_gid != access.gid:
            self._privileged.share_socket(target.name, access.gid)
        if not self._may_take(settings.proxy_socket):
            return False
        try:
            link = settings.proxy_socket
            link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            files.link(link, target)
        except OSError as error:
            raise AgentError(
                f"{settings.proxy_socket} (metadata_proxy_socket) can't be "
                f"made as uid {os.geteuid()}: {error.strerror}"
            ) from None
        for other in target.parent.iterdir():
            if other != target and other.is_socket():
                other.unlink()
        self._haproxies.remove_old_files(names.GATEWAY)
        return True

    def _may_take(self, name: Path) -> bool:
        """Tell whether Neutron's NAME of the socket is free to be ours.

        As long as a haproxy of Neutron's agent runs, its requests go there
        without saying whose they are: Neutron's agent, if it runs yet,
        answers them. Here it would be 404, which an instance believes, and
        without anybody it is 503, after which it tries again.
        """
        reason = ""
        if not self._places.is_link_of_ours(name):
            if self._privileged.sweep():
                reason = "haproxies that were here before have to end first"
            elif unixsocket.is_listening(name):
                reason = "somebody listens; stop Neutron's agent"
        problem = f"{name} (metadata_proxy_socket): {reason}" if reason else ""
        if self._status.trouble("metadata_proxy_socket", problem):
            LOG.info("not taken yet: %s", problem)
        return not reason
