"""Delivery from the ledger's outbox: to Alertmanager, webhooks, the log and Kafka topics.

    outbox ──lease──> lane (one thread per destination) ──> sender ──> delivered | retry | rejected

Delivery is at-least-once. A row is leased, sent, and then marked; a crash between sending and marking sends
it again under the same idempotency key once the lease has ended, so receivers drop repeats by that key.
Importing this package loads no Kafka client.
"""
