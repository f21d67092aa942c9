"""From a command line to a process that may be the agent."""
