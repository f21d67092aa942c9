"""The exceptions of the agent: one small tree."""


class AgentError(Exception):
    """The agent can't do something; the text is for the operator."""


class ConfigError(AgentError):
    """The configuration can't be used.

    The text is one line: the file, the section, the option, its value
    (never a secret) and the values that are allowed.
    """


class HaproxyError(AgentError):
    """A haproxy refused its configuration or a command; the text says why."""


class NoBridgeError(AgentError):
    """The integration bridge does not exist."""


class NoLocalportError(AgentError):
    """A network has no metadata port; the text says what follows."""


class NotLookedUpError(AgentError):
    """No name of Nova's has an address."""


class RefusedConfigError(HaproxyError):
    """haproxy refused a configuration; the text has what it printed."""


class StartError(AgentError):
    """The agent can't start; the text is one line and names the remedy."""
