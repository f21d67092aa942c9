"""The packages on a real Debian: `make boot` boots one of its own."""
