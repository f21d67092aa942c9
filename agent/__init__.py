"""The unprivileged side: decides what each network needs, and asks for it.

How a row travels to a haproxy:

    OVN Southbound         Open vSwitch        ovsdb: an IDL's thread each
          └────────┬───────────┘
              Databases                        connect, heartbeat
                   │  rows
              Snapshots ── core.settling       what is gone, what is not seen
                   │  keys of what changed
               Queues ◀── Repairs              what changed on the host itself
                   │  one key, one thread
               Workers
           ┌───────┴────────┐
       Reconciler        Gateway               core.desired, haproxy.render:
           └───────┬────────┘                  what should be
         ┌─────────┼──────────┐
       Host      vswitch    Proxies            make it so: root's calls, the
                                               port, haproxy's files and map

`main` wires, `Service` is the life of it all.
"""

import warnings

# oslo.privsep and ovs load eventlet where it is installed (Debian's package
# of the former needs it), to see whether it is in use. From 0.39 on it says
# that it is deprecated, on the stderr of every command of ours.
warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
