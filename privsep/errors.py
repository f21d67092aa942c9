"""Errors that the daemon can send to the agent.

oslo.privsep sends an exception as its class and `args`, and rebuilds it as
`cls(*args)`: the `__init__` of each class here takes exactly its one text.
"""

_PLAIN = (str, bytes, int, float, type(None))


class PrivilegedError(Exception):
    """The daemon could not do what was requested; the text says why."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class InvalidArgumentError(PrivilegedError):
    """An argument has a form that the agent never sends."""


class SettingsError(PrivilegedError):
    """The root-owned settings can't be used; the text names the remedy."""


class FleetError(PrivilegedError):
    """supervisord does not run, or refused; the text says why."""


class LinkError(PrivilegedError):
    """A link has one of our names but is not ours."""


class NoRootError(PrivilegedError):
    """No daemon can be started any more; only a restart of the agent helps."""


def sendable(error: Exception) -> Exception:
    """Return ERROR if the agent can rebuild it, else one with its text.

    Some classes keep other `args` than their `__init__` takes
    (`subprocess`'s, `xmlrpc.client.Fault`), and an OSError keeps its file
    elsewhere.
    """
    try:
        rebuilt = str(type(error)(*error.args))
    except Exception:  # noqa: BLE001 # its __init__ can raise anything
        rebuilt = None
    plain = all(isinstance(argument, _PLAIN) for argument in error.args)
    if plain and rebuilt == str(error):
        return error
    return PrivilegedError(f"{type(error).__name__}: {error}")
