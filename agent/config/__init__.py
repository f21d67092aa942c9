"""The operator's files, and the frozen settings that they become.

Only `options.load` reads these files. The room knows nothing of what the
settings are used for: it imports the agent's errors and no other module.
"""
