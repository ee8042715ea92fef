"""Agents: what a run did, and how it compares with the runs before it."""
