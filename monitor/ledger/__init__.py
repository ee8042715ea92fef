"""The ledger: the only copy of truth. SQLAlchemy Core on SQLite, one transaction per batch."""
