"""What the agent counts and measures, for Prometheus.

`Meter` counts, and `agent.exported` adds what is so at the moment of a scrape.
`agent.exporter` answers, and keeps the counters in a file, so that the next
agent continues them. `catalog` has every metric.
"""

COUNTERS = "ovn-metadata-agent-counters.json"
