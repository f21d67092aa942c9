"""What the agent reports about itself, and what it watches for that."""
