"""The haproxies' configurations and files, and commands to running ones."""
