"""What the agent raises: one small tree."""


class AgentError(Exception):
    """Something the agent can't do; its text is for the operator."""


class ConfigError(AgentError):
    """A configuration that can't be used.

    The text is one line: the file, the section, the option, what was
    written there (never a secret) and what is allowed.
    """


class HaproxyError(AgentError):
    """A haproxy refused its configuration or a command; the text has why."""


class StartError(AgentError):
    """The agent can't start; the text is one line and names the remedy."""
