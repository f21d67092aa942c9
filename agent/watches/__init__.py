"""What looks at intervals for what no row reports, each on its own thread."""
