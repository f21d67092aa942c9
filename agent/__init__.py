"""The unprivileged side: it decides what each network needs.

How a row travels to a haproxy:

    OVN Southbound         Open vSwitch     ovsdb: a thread with an IDL each
          └────────┬───────────┘
               Databases                    connect; heartbeat to Neutron
                   │  rows (core.port_rows parses them)
               Snapshots                    core.settling: gone, or not seen;
                   │                        core.spare: requested, kept
                   │  keys of the networks that changed
                Queues ◀── Repairs          keys of what changed on the host
                   │  one key, one thread
                Workers
           ┌───────┴────────┐
       Reconciler        Gateway            core.desired, haproxy.render:
           └───────┬────────┘               what should be
        ┌──────────┼──────────┐
    Privileged  Vswitch   Haproxies         make it so: the privsep daemon's
                                            calls, the port, files and maps

Folders: `startup` (what `main` does before the agent runs), `reconcile` (from
rows to a network that is served), `ovsdb` (both databases), `haproxy` (its
files and its sockets), `watches` (what looks at intervals for what no row
reports), `monitor` (what the agent reports), `metrics` (what it counts, for
Prometheus), `why` (the answers to `agent-status why` and `asks`), `commands`
(what operators run), `config` (the operator's files), `core` (pure functions).
The life of the agent, from connecting to stopping: `service`.
"""

from .. import privsep as privsep  # first: for its filter of warnings
