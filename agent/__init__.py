"""The unprivileged side: decides what each network needs, and has it done.

How a row travels to a haproxy:

    OVN Southbound         Open vSwitch     ovsdb: a thread with an IDL each
          └────────┬───────────┘
               Databases                    connect; heartbeat to Neutron
                   │  rows (core.port_rows makes values of them)
               Snapshots                    core.settling: gone, or not seen
                   │  keys of the networks that changed
                Queues ◀── Repairs          keys of what changed on the host
                   │  one key, one thread
                Workers
           ┌───────┴────────┐
       Reconciler        Gateway            core.desired, haproxy.render:
           └───────┬────────┘               what should be
        ┌──────────┼──────────┐
    Privileged  Vswitch   Haproxies         make it so: calls of root's daemon,
                                            the port, haproxy's files and maps

Rooms: `startup` (from a command line to a process that may be the agent),
`service` (its life), `reconcile` (a key to a host), `ovsdb`, `haproxy` (text,
and the way to a running one), `monitor` (what it reports), `commands` (what
operators run), `config` (the operator's files), `core` (pure).
"""

import warnings

# oslo.privsep and ovs load eventlet where it is installed (Debian's package
# of the former needs it), to see whether it is in use. From 0.39 on it says
# that it is deprecated, on the stderr of every command of ours.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
