"""What the agent counts and measures, and its exporter for Prometheus.

`Meter` counts, `kept` keeps the counters in a file, `collector` adds what is
so at the moment of a scrape, `exporter` answers. `catalog` has every metric.
"""
