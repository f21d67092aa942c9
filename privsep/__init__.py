"""The privileged side: a few calls that a daemon of root's carries out.

`network` and `fleet` have the calls, `context` is how they get there; the
rest is what they are made of. supervisord loads its extension from here
too, so nothing is imported on the way.
"""
