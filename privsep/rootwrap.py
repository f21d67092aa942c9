"""`ovn-metadata-rootwrap`: oslo.rootwrap, for the rule in sudoers.d."""

import os

from oslo_rootwrap import cmd


def main() -> None:
    """Run it, so that the privsep-helper prints no warning of eventlet.

    The helper loads eventlet (see __init__) before any code of ours.
    """
    os.environ["PYTHONWARNINGS"] = "ignore:::oslo_privsep.daemon"
    cmd.main()
