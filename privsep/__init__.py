"""The privileged side: which root process runs what.

    process         user, capabilities            what it loads of this package
    privsep daemon  root, NET_ADMIN, SYS_ADMIN,   daemon, context, namespace,
                    CHOWN                         fleet, vswitch
    acceptor        root, all that it is given    acceptor (containers only)
    supervisord     root, all that it is given    supervisor, parts of fleet
    a haproxy       its own user, none            nothing

The agent calls the entrypoints of `namespace`, `fleet` and `vswitch`;
`context` carries each call to the daemon. The agent also uses what needs no
privilege: `names`, `places`, `settings`, `errors` and other small modules of
this folder. None of them is imported here: each process loads what it needs.
"""

import warnings

# oslo.privsep and ovs import eventlet where it is installed, to see whether it
# is in use. Debian's oslo.privsep depends on it. Since 0.39, eventlet prints a
# deprecation warning to the stderr of every program of ours.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
