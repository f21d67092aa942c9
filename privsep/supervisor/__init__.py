"""What runs inside supervisord, and the command that becomes supervisord.

supervisord has all of root's capabilities. The privsep daemon loads nothing
of this folder.
"""
