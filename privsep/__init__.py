"""The privileged side: which process of root runs what.

    process         user, capabilities            loads of this package
    privsep daemon  root, NET_ADMIN, SYS_ADMIN,   daemon, context, namespace,
                    CHOWN                         fleet
    acceptor        root, all (containers only)   acceptor
    supervisord     root, all                     supervisor, parts of fleet
    a haproxy       its own user, none            nothing

The agent calls the functions of `namespace.calls` and `fleet.calls`; `context`
carries each call to the daemon. `names`, `places`, `validate` and `errors` are
pure and the agent uses them too. Nothing is imported here: each process loads
what it needs.
"""
