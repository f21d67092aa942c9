"""What the privsep daemon does about supervisord and its haproxies."""
