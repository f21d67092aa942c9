"""`ovn-metadata-cleanup`: take all of the agent's off a host.

`command` is the program; `inventory` and `databases` find what there is,
`findings` decides whose it is and says it.
"""
