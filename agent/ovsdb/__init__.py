"""The two databases: OVN's Southbound and the local Open vSwitch."""
