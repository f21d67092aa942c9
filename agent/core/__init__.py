"""What the rows mean and what follows from them: pure, as a folder.

Nothing here reads a clock, a file, a socket, an option or an OVSDB row, and
nothing logs; import-linter holds that.
"""
