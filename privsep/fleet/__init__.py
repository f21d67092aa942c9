"""Calls about supervisord and its haproxies: the privsep daemon."""
