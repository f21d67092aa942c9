"""From a key in a queue to a host that is as the rows say.

`snapshots` is where rows arrive and `workqueue` what they cause. A worker
brings one network (`network`) or the gateway (`gateway`) to what is wanted.
`privileged` is the only module of the agent that calls the privsep daemon.
"""
