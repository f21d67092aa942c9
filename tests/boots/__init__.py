"""Real cloud-init of three Debians, while something is done to the agent.

`make boots` plays the lottery and prints the table of
docs/explanation/boots.md; tests/functional/test_boots.py plays a few rounds.
"""
