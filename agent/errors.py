"""The exceptions of the agent: one small tree."""


class AgentError(Exception):
    """The agent can't do something; TEXT is for the operator.

    CODE is the problem's; "" if it depends on what fails because of it.
    """

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


class ConfigError(AgentError):
    """The configuration can't be used.

    The text is one line: the file, the section, the option, its value
    (never a secret) and the values that are allowed.
    """


class HaproxyError(AgentError):
    """A haproxy refused its configuration or a command; the text says why."""


class StartError(AgentError):
    """The agent can't start; the text is one line and names the remedy."""
