"""The privileged side: which root process runs what.

    process         user, capabilities            what it loads of this package
    privsep daemon  root, NET_ADMIN, SYS_ADMIN,   daemon, context, namespace,
                    CHOWN                         fleet
    acceptor        root, all (containers only)   acceptor
    supervisord     root, all                     supervisor, parts of fleet
    a haproxy       its own user, none            nothing

The agent calls the functions of `namespace.calls`, `fleet.calls` and
`fleet.shut_down`; `context` carries each call to the daemon. The agent also
uses `names`, `places`, `validate` and `errors`, which are pure. Nothing is
imported here: each process loads what it needs.
"""
