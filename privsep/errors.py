"""Errors that survive the way from the daemon to the agent.

oslo.privsep rebuilds an exception as `cls(*args)`, so each class takes
exactly the text that it passes on.
"""


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
