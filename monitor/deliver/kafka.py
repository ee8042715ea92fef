"""Deliver feedback items and verdicts to Kafka topics as CloudEvents (Kafka binding, binary mode).

kafka-python's producer is used without transactions: their waits have no time-out, and a repeat under the
same key is what the outbox promises anyway.
"""

import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monitor.clock import Clock, Deadline
from monitor.deliver.results import Delivered, Outcome, Reason, Rejected, Result, Retry
from monitor.records import Leased

FEEDBACK_TYPE = "riskmon.feedback.v1"
VERDICT_TYPE = "riskmon.verdict.v1"
CE_SOURCE = "/riskmon"
CLOSE_SECONDS = 1.0


class KafkaSender:
    """Writes rows to `topic` with an idempotent producer, acknowledged by all in-sync replicas.

    `client` are further kafka-python settings: transport security and authentication. The producer is opened
    by the first send, which may take `timeout` seconds more, and anew after a send that failed: after an
    indefinite error a producer's sequence numbers cannot be trusted. `event` is the CloudEvents type, `key`
    makes a record's key of a row: by default the row's own.
    """

    def __init__(
        self,
        bootstrap: list[str],
        topic: str,
        client: Mapping[str, Any],
        timeout: float,
        clock: Clock,
        *,
        event: str = FEEDBACK_TYPE,
        key: Callable[[Leased], str] = lambda row: row.key,
        batch: int = 100,
    ) -> None:
        self.batch = batch
        self._event = event
        self._key = key
        self.timeout = 2.0 * timeout  # opening, then sending
        self._wait = timeout
        self._topic = topic
        self._clock = clock
        self._producer: Any = None
        milliseconds = int(timeout * 1000)
        self._settings: dict[str, Any] = {
            **client,
            "bootstrap_servers": bootstrap,
            "enable_idempotence": True,
            "acks": "all",
            "metrics_enabled": False,
            "bootstrap_timeout_ms": milliseconds,
            "max_block_ms": milliseconds // 2,
            "request_timeout_ms": milliseconds // 4,
            "delivery_timeout_ms": milliseconds // 2,  # max_block + delivery = timeout
        }

    def send(self, batch: Sequence[Leased]) -> Outcome:
        """Produce all rows, then wait for each acknowledgement until the time-out."""
        from kafka.errors import KafkaError

        try:
            if self._producer is None:
                self._producer = self._open()
        except KafkaError as error:
            return [_judge(error)] * len(batch)
        deadline = Deadline(self._clock, self._wait)
        begun = self._begin(batch)
        results = [self._end(row, deadline) for row in begun]
        # A broker answers for all records of a request, so that one bad row has its neighbours refused.
        spoilt = [
            place
            for place, (row, result) in enumerate(zip(begun, results, strict=True))
            if isinstance(result, Rejected) and result is not row
        ]
        if len(spoilt) > 1:
            for place in spoilt:
                results[place] = self._end(self._begin([batch[place]])[0], deadline)
        if any(isinstance(result, Retry) for result in results):
            self.close()
        return results

    def close(self) -> None:
        """Close the producer within about a second. Idempotent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            from kafka.errors import KafkaError

            with contextlib.suppress(KafkaError):  # unsent rows are still in the outbox
                producer.close(timeout=CLOSE_SECONDS)
            # A close that timed out has left the IO thread running for ever.
            producer._sender.force_close()  # noqa: SLF001 - the library has no public way to end it

    def _open(self) -> Any:
        from kafka import KafkaProducer
        from kafka.net.compat import KafkaNetClient

        # At DEBUG the library logs the bytes of every request, and so the text of every item.
        logger = logging.getLogger("kafka")
        logger.setLevel(max(logger.level, logging.INFO))
        clients: list[Any] = []

        def connect(**settings: Any) -> Any:
            clients.append(KafkaNetClient(**settings))
            return clients[0]

        try:
            return KafkaProducer(**self._settings, kafka_client=connect)
        except BaseException:
            for client in clients:
                client.close()  # the library leaves its sockets open when construction fails
            raise

    def _begin(self, batch: Sequence[Leased]) -> list[Any]:
        """Hand rows to the producer; a future for each, or the result where it is known at once."""
        from kafka.errors import KafkaError

        begun: list[Any] = []
        for row in batch:
            try:
                future = self._producer.send(
                    self._topic,
                    key=self._key(row).encode(),
                    value=json.dumps(row.body).encode(),
                    headers=_headers(row, self._event),
                )
            except KafkaError as error:
                result = _judge(error)
                if isinstance(result, Retry):
                    # It waited in vain for the topic's metadata, and every row after it would too.
                    return begun + [result] * (len(batch) - len(begun))
                begun.append(result)
            else:
                begun.append(future)
        return begun

    def _end(self, begun: Any, deadline: Deadline) -> Result:
        from kafka.errors import KafkaError

        if isinstance(begun, Retry | Rejected):
            return begun
        try:
            begun.get(timeout=deadline.remaining())
        except KafkaError as error:
            return _judge(error)
        return Delivered()


def _headers(row: Leased, event: str) -> list[tuple[str, bytes]]:
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", row.key.encode()),
        ("ce_type", event.encode()),
        ("ce_source", CE_SOURCE.encode()),
        ("content-type", b"application/json"),
    ]


def _judge(error: Exception) -> Result:
    """Return what an error of the client means for a row: only size and form are the row's own fault."""
    from kafka import errors

    if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        return Rejected(Reason.TOO_LARGE)
    if isinstance(error, errors.InvalidRecordError):
        return Rejected(Reason.INVALID)
    if isinstance(error, errors.AuthorizationError | errors.SaslAuthenticationFailedError):
        return Retry(Reason.UNAUTHORIZED)
    if isinstance(error, errors.UnknownTopicOrPartitionError | errors.InvalidTopicError):
        return Retry(Reason.NOT_FOUND)
    if isinstance(error, errors.PolicyViolationError):
        return Retry(Reason.REFUSED)
    return Retry(Reason.TIMEOUT if isinstance(error, errors.KafkaTimeoutError) else Reason.BROKER)
