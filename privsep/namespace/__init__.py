"""What the privsep daemon does about a network's namespace and veth."""
