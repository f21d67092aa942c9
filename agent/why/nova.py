"""Try Nova's addresses from this host, as the gateway reaches them."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..config.settings import Nova
from .facts import Endpoint

_CONNECT_S = 1.5
_AT_ONCE = 16

Addresses = Callable[[str], tuple[str, ...] | None]


def attempts(nova: Nova, addresses: Addresses) -> tuple[Endpoint, ...]:
    """Return what becomes of a connection to each address of NOVA."""
    found: list[Endpoint] = []
    tries: list[tuple[Nova, str, str, int, str]] = []
    for endpoint in nova.endpoints:
        host, known = endpoint.host, addresses(endpoint.host) or ()
        shown = f"[{host}]" if ":" in host else host
        url = f"{nova.protocol}://{shown}:{endpoint.port}"
        port, name = endpoint.port, endpoint.name
        tries += [(nova, url, each, port, name) for each in known]
        if not known:
            why = f"{host} can't be looked up on this host"
            found.append(Endpoint(url, "", "OVNMD-502", why))
    # One after the other, twenty that are silent would take half a minute.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return (*pool.map(lambda each: _attempt(*each), tries), *found)


def _attempt(
    nova: Nova, url: str, address: str, port: int, name: str
) -> Endpoint:
    begun, code, why = time.monotonic(), "OVNMD-501", ""
    try:
        with socket.create_connection((address, port), _CONNECT_S) as plain:
            if nova.protocol == "https":
                code = "OVNMD-503"
                context = _context(nova, name)
                with context.wrap_socket(
                    plain, server_hostname=name or None
                ) as secured:
                    # By TLS 1.3 Nova looks at our certificate only now.
                    secured.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    with contextlib.suppress(TimeoutError):
                        secured.recv(1)
    except ssl.SSLError as error:
        refusal = getattr(error, "verify_message", error.reason)
        why = f"TLS: {refusal or error}"
    except TimeoutError:
        why = f"{address} port {port} does not answer in {_CONNECT_S:g} s"
    except OSError as error:
        why = f"{address} port {port}: {error.strerror or error}"
    took_ms = (time.monotonic() - begun) * 1000
    return Endpoint(url, address, code if why else "", why, took_ms)


def _context(nova: Nova, name: str) -> ssl.SSLContext:
    """Return how the gateway speaks TLS; see `render`.

    `create_default_context` is stricter from Python 3.13 on.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(name) and not nova.insecure
    if nova.insecure:
        context.verify_mode = ssl.CERT_NONE
    for file in nova.authorities:
        context.load_verify_locations(cafile=str(file))
    if not nova.authorities:
        context.load_default_certs()
    if nova.client_cert is not None and nova.client_key is not None:
        context.load_cert_chain(str(nova.client_cert), str(nova.client_key))
    return context
