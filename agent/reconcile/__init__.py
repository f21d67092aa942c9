"""From a changed row to a network that is served.

This is the way of a change; read the modules in this order:

1. `snapshots` takes the rows from both databases' threads and finds the
   networks that changed. Their keys (Neutron's ids) go into the queues.
2. `workqueue` holds each key once, gives it to one thread at a time and
   retries failures with back-off.
3. `workers` are the threads. They call `network`, or `gateway` for the key
   "gateway".
4. `network` computes what the network needs (`core.desired`). Then it takes
   addresses from their old owners (`maps`), makes the namespace and the veth
   (`privileged`), ensures that the haproxy's sockets are there, sets the
   addresses, plugs the veth and waits for the haproxy: no client is refused.
   If the network needs nothing any more, `traces` removes all of it, the port
   first.
5. `haproxies` writes the files of one haproxy, ensures that its program runs,
   and brings the running process up to date (`maps`).

Keys come from two more modules: `repairs` finds what others have changed on
this host, and `nova_addresses` finds new addresses for the gateway. All of
them share what is in `site`. `privileged` is the only module of the agent that
calls the privsep daemon.
"""
