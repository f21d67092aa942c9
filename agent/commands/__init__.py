"""The commands of operators: `agent-status` and the others."""
