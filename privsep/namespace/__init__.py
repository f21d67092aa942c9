"""Calls about the network namespace of a network: the privsep daemon."""
