"""riskmon's own telemetry: metrics, spans and logs. Best effort: its failure costs no judgement."""
