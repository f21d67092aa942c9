"""The operator's files, and the frozen settings that they become.

Nothing outside of this folder reads a configuration file of the agent.
"""
