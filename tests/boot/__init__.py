"""The units under a real systemd: `make boot` boots a Debian of its own."""
