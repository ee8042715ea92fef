"""Deliver alerts to a webhook: signed, deduplicable, and unable to reach the private network."""

import hashlib
import hmac
import json
import ssl
from collections.abc import Sequence

from monitor.clock import Clock, Deadline
from monitor.config import WebhookConfig
from monitor.deliver.formats import body_of
from monitor.deliver.network import Poster, Resolve, endpoint, resolve
from monitor.deliver.results import Outcome, Result
from monitor.records import Leased


def signature(secret: str, time: int, body: bytes) -> str:
    """Return the value of `X-Riskmon-Signature`: `t=<Unix seconds>,v1=<hex HMAC-SHA-256 of "t.body">`.

    A receiver computes the same over the bytes it got, compares in constant time, and refuses a `t` more than
    a few minutes old, so an old message cannot be replayed.
    """
    digest = hmac.new(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={time},v1={digest}"


class WebhookSender:
    """Posts one alert per request, in the format that the webhook is configured to read."""

    batch = 1

    def __init__(
        self,
        config: WebhookConfig,
        timeout: float,
        clock: Clock,
        resolver: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.timeout = timeout
        self._clock = clock
        self._config = config
        self._secret = config.secret.get_secret_value() if config.secret else None
        setting = f"deliver.webhooks[{config.name}].url"
        url = endpoint(config.url.get_secret_value(), setting, allow_private=config.allow_private)
        self._poster = Poster(url, clock, guarded=not config.allow_private, resolver=resolver, tls=tls)

    def send(self, batch: Sequence[Leased]) -> Outcome:
        """Post each row; the key travels as `Idempotency-Key`, so that a receiver can drop repeats."""
        deadline = Deadline(self._clock, self.timeout)
        return [self._poster.post(*self._message(row), deadline) for row in batch]

    def reach(self, seconds: float) -> Result:
        """Check that the receiver accepts a connection; nothing is sent."""
        return self._poster.reach(Deadline(self._clock, seconds))

    def close(self) -> None:
        """Close the connection."""
        self._poster.close()

    def _message(self, row: Leased) -> tuple[bytes, dict[str, str]]:
        body = json.dumps(body_of(self._config, row)).encode()
        headers = {"idempotency-key": row.key}
        if self._secret is not None:
            headers["x-riskmon-signature"] = signature(self._secret, int(self._clock.now()), body)
        return body, headers
