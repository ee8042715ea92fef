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
        """A destination refused messages for good."""
        self._metrics.inc("deliveries", messages, destination=destination, outcome="rejected")
        self._metrics.inc("delivery_failures", messages, destination=destination, reason=reason)
        self._log.error("delivery_rejected", destination=destination, reason=reason, messages=messages)

    @best_effort
    def pending(self, outbox: Mapping[str, tuple[int, float]]) -> None:
        """Report the backlog per destination: (messages, age of the oldest in seconds)."""
        self._metrics.replace("outbox_pending", {(name,): rows for name, (rows, _) in outbox.items()})
        self._metrics.replace("outbox_oldest_seconds", {(name,): age for name, (_, age) in outbox.items()})
