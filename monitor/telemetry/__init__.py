"""What riskmon says about itself: metrics, spans and logs. Best effort: it can die without cost."""
