"""Reports about outgoing messages."""

from collections.abc import Mapping

from monitor.telemetry.observer.reporter import Reporter, best_effort


class DeliveryReports(Reporter):
    """Reports of the dispatcher. Its threads call them."""

    @best_effort
    def delivered(self, destination: str, messages: int) -> None:
        """A destination took messages."""
        self._metrics.inc("deliveries", messages, destination=destination, outcome="delivered")

    @best_effort
    def failed(self, destination: str, reason: str, messages: int) -> None:
        """A delivery failed and will be tried again."""
        self._metrics.inc("deliveries", messages, destination=destination, outcome="failed")
        self._metrics.inc("delivery_failures", messages, destination=destination, reason=reason)

    @best_effort
    def rejected(self, destination: str, reason: str, messages: int) -> None:
        """A destination called messages malformed; they are set aside."""
        self._metrics.inc("deliveries", messages, destination=destination, outcome="rejected")
        self._metrics.inc("delivery_failures", messages, destination=destination, reason=reason)
        self._log.error("delivery_rejected", destination=destination, reason=reason, messages=messages)

    @best_effort
    def lane_restarted(self, destination: str) -> None:
        """A bug ended a turn of a delivery thread."""
        self._metrics.inc("delivery_lane_restarts", destination=destination)

    @best_effort
    def pending(
        self, outbox: Mapping[str, tuple[int, float]], troubles: Mapping[tuple[str, str, str], int]
    ) -> None:
        """Report the backlog per destination: (messages, age of the oldest in seconds), and its troubles.

        Troubles are counts by destination, state in the ledger and reason of the last try.
        """
        self._metrics.replace("outbox_pending", {(name,): rows for name, (rows, _) in outbox.items()})
        self._metrics.replace("outbox_oldest_seconds", {(name,): age for name, (_, age) in outbox.items()})
        by_state: dict[str, dict[tuple[str, ...], float]] = {"waiting": {}, "rejected": {}}
        for (name, state, reason), rows in troubles.items():
            by_state[state][name, reason] = rows
        self._metrics.replace("outbox_failing", by_state["waiting"])
        self._metrics.replace("outbox_set_aside", by_state["rejected"])

    @best_effort
    def log_lines_dropped(self, lines: int) -> None:
        """Nobody read the log: lines were lost."""
        self._metrics.inc("log_lines_dropped", lines)
