"""Errors that survive the way from the daemon to the agent.

oslo.privsep sends an exception as its class and `args`, and rebuilds it as
`cls(*args)`: each class here takes exactly the text that it passes on.
"""

_PLAIN = (str, bytes, int, float, type(None))


class PrivilegedError(Exception):
    """The daemon could not do what it was asked; the text says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class InvalidArgumentError(PrivilegedError):
    """An argument is not of a form that the agent would send."""


class SettingsError(PrivilegedError):
    """The root-owned settings can't be used; the text names the remedy."""


class FleetError(PrivilegedError):
    """supervisord is not there or refused; the text says why."""


class LinkError(PrivilegedError):
    """A link has one of our names but is not ours."""


def sendable(error: Exception) -> Exception:
    """Return ERROR if the agent can rebuild it, else one with its words.

    Some classes take other arguments than they keep (`subprocess`'s,
    `xmlrpc.client.Fault`), and an OSError keeps its file elsewhere.
    """
    try:
        rebuilt = str(type(error)(*error.args))
    except Exception:  # noqa: BLE001 # whatever its __init__ makes of it
        rebuilt = None
    plain = all(isinstance(argument, _PLAIN) for argument in error.args)
    if plain and rebuilt == str(error):
        return error
    return PrivilegedError(f"{type(error).__name__}: {error}")
