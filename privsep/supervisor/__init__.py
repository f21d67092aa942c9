"""What runs inside supervisord, and the command that becomes it.

supervisord has all of root's capabilities. The privsep daemon loads none of
this.
"""
