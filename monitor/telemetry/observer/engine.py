"""Reports about the engine's loop: records, queues, assembly, rules and reloads."""

from monitor.ports import AssemblyStats, Stage
from monitor.telemetry.observer.reporter import Reporter, best_effort


class EngineReports(Reporter):
    """Reports of the engine about the records it reads, and the rules and settings it runs with."""

    @best_effort
    def turned(self) -> None:
        """The loop has turned once."""
        self._metrics.set("heartbeat_timestamp_seconds", self._clock.now())

    @best_effort
    def consumed(self, topic: str, records: int) -> None:
        """Records were taken from the source for the first time since the partition was claimed."""
        self._metrics.inc("records_consumed", records, topic=topic)

    @best_effort
    def dead_lettered(self, topic: str, reason: str, records: int) -> None:
        """Dead letters are durable in the ledger."""
        self._metrics.inc("records_dead_lettered", records, topic=topic, reason=reason)
        self._metrics.set("last_recorded_timestamp_seconds", self._clock.now())

    @best_effort
    def recorded(self, topic: str, records: int) -> None:
        """Records whose traces are all judged are durable in the ledger."""
        self._metrics.inc("records_recorded", records, topic=topic)
        self._metrics.set("last_recorded_timestamp_seconds", self._clock.now())

    @best_effort
    def skipped(self, topic: str, reason: str, records: int) -> None:
        """Recorded records that held nothing to judge."""
        self._metrics.inc("records_skipped", records, topic=topic, reason=reason)

    @best_effort
    def times_replaced(self, topic: str, items: int) -> None:
        """Times that cannot be were replaced by the arrival of their record."""
        self._metrics.inc("times_replaced", items, topic=topic)

    @best_effort
    def released(self, topic: str, records: int) -> None:
        """Consumed records were handed back unjudged: partition revoked, or daemon stopped."""
        self._metrics.inc("records_released", records, topic=topic)

    @best_effort
    def waiting(self, stage: Stage, traces: int) -> None:
        """Report how many traces wait in a stage."""
        self._metrics.set("queue_traces", traces, stage=stage)

    @best_effort
    def assembly(self, stats: AssemblyStats) -> None:
        """State of the assembly of spans into traces."""
        for completion, traces in stats.completions.items():
            self._metrics.total("traces_assembled", traces, completion=completion)
        for part, times in stats.missing.items():
            self._metrics.total("trace_parts_missing", times, part=part)
        self._metrics.total("spans_late", stats.late)
        self._metrics.total("sources_late", stats.late_sources)
        self._metrics.total("exchanges_repeated", stats.repeated)
        for app, exchanges in self._by_label("exchanges_revised", stats.revised).items():
            self._metrics.total("exchanges_revised", exchanges, app=app)
        self._metrics.total("exchanges_revised_delay_seconds", stats.revised_seconds)
        self._metrics.total("traces_foreign", stats.foreign)
        for scope, spans in self._by_label("spans_foreign", stats.foreign_spans).items():
            self._metrics.total("spans_foreign", spans, scope=scope)
        self._metrics.set("assembly_waiting_traces", stats.waiting_traces)
        self._metrics.set("assembly_waiting_bytes", stats.waiting_bytes)

    @best_effort
    def rules_loaded(self, version: str, *, ok: bool) -> None:
        """Rules were (re)loaded, or failed to and the last good set stays."""
        self._metrics.set("rules_last_reload_successful", float(ok))
        if ok:
            self._metrics.replace("rules_info", {(version,): 1.0})
            self._metrics.set("rules_last_reload_success_timestamp_seconds", self._clock.now())
            self._log.info("rules_loaded", version=version)
        else:
            self._log.error("rules_not_loaded", version=version)

    @best_effort
    def config_loaded(self, *, ok: bool) -> None:
        """The configuration was (re)loaded, or failed to and the last good one stays."""
        self._metrics.set("config_last_reload_successful", float(ok))
        if ok:
            self._metrics.set("config_last_reload_success_timestamp_seconds", self._clock.now())

    @best_effort
    def reloaded(self, *, ok: bool) -> None:
        """A reload that was asked for has been done, or failed."""
        self._metrics.inc("reloads", outcome="succeeded" if ok else "failed")

    @best_effort
    def rule_failed(self, rule: str) -> None:
        """A rule could not be evaluated on a trace."""
        self._metrics.inc("rule_errors", rule=rule)
