"""Build the senders of a configuration."""

from monitor.clock import Clock
from monitor.config import Config
from monitor.deliver.alertmanager import AlertmanagerSender
from monitor.deliver.kafka import VERDICT_TYPE, KafkaSender
from monitor.deliver.log import Lines, LogSender
from monitor.deliver.results import Sender
from monitor.deliver.webhook import WebhookSender
from monitor.errors import ConfigError
from monitor.outcome.alerts import ALERTMANAGER, FEEDBACK, LOG, WEBHOOK_PREFIX
from monitor.outcome.verdict import VERDICTS

VERDICTS_BATCH = 1000  # one a trace: two ledger transactions per send must carry many


def senders(config: Config, clock: Clock, lines: Lines | None = None) -> dict[str, Sender]:
    """Return a sender per destination. Connects to nothing. Raises ConfigError naming the setting.

    `lines` is what the log is written to, if its writer can say what is written; see `LogSender`.
    """
    deliver = config.deliver
    built: dict[str, Sender] = {}
    if deliver.alertmanager.url:
        built[ALERTMANAGER] = AlertmanagerSender(deliver.alertmanager, deliver.timeout_seconds, clock)
    for webhook in deliver.webhooks:
        destination = WEBHOOK_PREFIX + webhook.name
        if destination in built:
            raise ConfigError(f"deliver.webhooks: two are named {webhook.name!r}; give each its own name")
        built[destination] = WebhookSender(webhook, deliver.timeout_seconds, clock)
    if deliver.log:
        built[LOG] = LogSender(clock, lines)
    if deliver.feedback_topic:
        built[FEEDBACK] = KafkaSender(
            config.kafka.bootstrap_servers,
            deliver.feedback_topic,
            config.kafka.connection(),
            deliver.timeout_seconds,
            clock,
        )
    if deliver.verdicts_topic:
        built[VERDICTS] = KafkaSender(
            config.kafka.bootstrap_servers,
            deliver.verdicts_topic,
            config.kafka.connection(),
            deliver.timeout_seconds,
            clock,
            event=VERDICT_TYPE,
            key=lambda row: row.body["trace_id"] or row.body["response_id"],
            batch=VERDICTS_BATCH,
        )
    return built
