"""Measure the agent beside Neutron's own, in one sandbox and one run.

Numbers of a shared machine mean little; the ratios of one run do. Each
module is a benchmark: `python -m sandbox.enter python -m bench.NAME`.
"""
