"""Deliver alerts to Prometheus Alertmanager, API v2 (`POST /api/v2/alerts`, openapi.yaml of the project)."""

import base64
import json
from collections.abc import Sequence
from typing import Any

from monitor.clock import Clock, Deadline, rfc3339
from monitor.config import AlertmanagerConfig
from monitor.deliver.network import Poster, endpoint
from monitor.deliver.results import Outcome, Reason, Rejected, Result, Retry
from monitor.records import Leased


class AlertmanagerSender:
    """Posts alerts in arrays. Alertmanager merges those with equal labels into one."""

    batch = 64

    def __init__(self, config: AlertmanagerConfig, timeout: float, clock: Clock) -> None:
        self.timeout = timeout
        self._clock = clock
        self._resolve_seconds = config.resolve_seconds
        url = endpoint(config.url.get_secret_value(), "deliver.alertmanager.url", allow_private=True)
        url.target = url.target.rstrip(b"/") + b"/api/v2/alerts"
        # Not guarded: Alertmanager is the operator's own and usually has a private address.
        self._poster = Poster(url, clock, guarded=False)
        self._headers: dict[str, str] = {}
        if config.username is not None:
            password = config.password.get_secret_value() if config.password else ""
            token = base64.b64encode(f"{config.username}:{password}".encode()).decode("ascii")
            self._headers["authorization"] = f"Basic {token}"

    def send(self, batch: Sequence[Leased]) -> Outcome:
        """Send all rows at once; halve an array found malformed until the bad row is alone."""
        return self._send(batch, Deadline(self._clock, self.timeout))

    def reach(self, seconds: float) -> Result:
        """Check that Alertmanager accepts alerts from us, by sending an empty list."""
        return self._poster.post(b"[]", self._headers, Deadline(self._clock, seconds))

    def close(self) -> None:
        """Close the connection."""
        self._poster.close()

    def _send(self, batch: Sequence[Leased], deadline: Deadline) -> list[Result]:
        if deadline.expired():
            return [Retry(Reason.TIMEOUT)] * len(batch)
        alerts = [self._firing(row.body) for row in batch]
        result = self._poster.post(json.dumps(alerts).encode(), self._headers, deadline)
        if isinstance(result, Rejected) and len(batch) > 1:
            half = len(batch) // 2
            return self._send(batch[:half], deadline) + self._send(batch[half:], deadline)
        return [result] * len(batch)

    def _firing(self, alert: dict[str, Any]) -> dict[str, Any]:
        # The alert's time runs from its delivery. One that arrives late, or just before its end, would be
        # resolved before Alertmanager's group_wait (30 s by default) is over, and notify no one.
        return alert | {"endsAt": rfc3339(self._clock.now() + self._resolve_seconds)}
