"""The operator's files, and the frozen settings that they become.

`options.load` reads these files. No module here depends on what the settings
are used for: of the agent they import `core` and the errors only.
"""
