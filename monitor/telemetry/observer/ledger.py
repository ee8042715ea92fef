"""Reports about the ledger and its audit chain."""

from collections.abc import Mapping

from monitor.telemetry.catalogue.ledger import LEDGER_TABLES
from monitor.telemetry.observer.reporter import Reporter, best_effort


class LedgerReports(Reporter):
    """Reports of the engine about its transactions, and of the auditor, whose thread calls them."""

    @best_effort
    def ledger(self, *, writable: bool) -> None:
        """Report whether the last write to the ledger succeeded."""
        self._metrics.set("ledger_writable", float(writable))

    @best_effort
    def transaction(self, seconds: float) -> None:
        """One ledger transaction took this long, commit included."""
        self._metrics.observe("ledger_transaction_seconds", (seconds,))

    @best_effort
    def kept(self, rows: Mapping[str, int]) -> None:
        """Rows that the ledger keeps, by table."""
        for table in LEDGER_TABLES:
            self._metrics.set("ledger_rows", rows[table], table=table)

    @best_effort
    def gaps(self, gaps: int) -> None:
        """Ranges of offsets that are on record as never judged."""
        self._metrics.set("audit_gaps", gaps)

    @best_effort
    def verified(self, entries: int, problems: int, gaps: int, seconds: float) -> None:
        """The audit chain was verified, with this result and duration."""
        self._metrics.set("audit_last_verification_successful", float(problems == 0))
        self._metrics.set("audit_verified_timestamp_seconds", self._clock.now())
        self._metrics.set("audit_verification_duration_seconds", seconds)
        self._metrics.set("audit_verified_entries", entries)
        self._metrics.set("audit_problems", problems)
        self._metrics.set("audit_gaps", gaps)
        if problems:
            self._log.error("audit_not_verified", problems=problems, gaps=gaps)
