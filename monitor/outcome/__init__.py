"""Outcome of judgements: a transaction, alerts, and the published verdict."""
