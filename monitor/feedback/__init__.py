"""The feedback queue: flagged samples for retraining, and the formats trainers read."""
