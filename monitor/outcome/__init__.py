"""What follows from a judgement: a transaction, alerts, and the published verdict."""
