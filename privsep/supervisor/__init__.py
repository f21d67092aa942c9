"""What runs inside supervisord, and the command that becomes supervisord.

supervisord has capabilities that the privsep daemon lacks. The daemon loads
nothing of this folder.
"""
