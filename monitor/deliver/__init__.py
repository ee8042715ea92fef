"""From the ledger's outbox to the outside: Alertmanager, webhooks, the log and the feedback topic.

    outbox ──lease──> lane (one thread per destination) ──> sender ──> delivered | retry | rejected

Delivery is at-least-once. A row is leased, sent, and then marked; a crash between sending and marking sends
it again under the same idempotency key once the lease has ended, so receivers drop repeats by that key.
Importing this package loads no Kafka client.
"""
