"""From the command line to a process that is ready to be the agent."""
