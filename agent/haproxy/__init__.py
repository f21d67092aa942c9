"""The haproxies: their files, and what is said to them while they run."""
