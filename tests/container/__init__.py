"""The image in two containers, on the sandbox's chassis: `make container`."""
