"""Metrics of the ledger and of the verification of its audit chain."""

from typing import Literal, TypeAlias

from monitor.telemetry.catalogue.families import Family, Kind, closed

Gauge: TypeAlias = Literal[
    "ledger_writable",
    "ledger_rows",
    "audit_last_verification_successful",
    "audit_verified_timestamp_seconds",
    "audit_verification_duration_seconds",
    "audit_verified_entries",
    "audit_problems",
    "audit_gaps",
]
Histogram: TypeAlias = Literal["ledger_transaction_seconds"]

LEDGER_TABLES = ("flags", "feedback", "dead_letters")

FAMILIES: dict[Gauge | Histogram, Family] = {
    "ledger_writable": Family(
        Kind.GAUGE, "1 when the last attempt to write the ledger succeeded, 0 while it is tried again."
    ),
    "ledger_transaction_seconds": Family(
        Kind.HISTOGRAM,
        "Time of one ledger transaction, commit included.",
        (),
        "seconds",
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
    ),
    "ledger_rows": Family(
        Kind.GAUGE, "Rows that the ledger keeps, by table.", (closed("table", LEDGER_TABLES),)
    ),
    "audit_last_verification_successful": Family(
        Kind.GAUGE, "1 when the last verification found nothing altered, skipped or judged twice, else 0."
    ),
    "audit_verified_timestamp_seconds": Family(
        Kind.GAUGE, "Unix time of the last verification of the audit chain, whatever it found.", (), "seconds"
    ),
    "audit_verification_duration_seconds": Family(
        Kind.GAUGE, "Time the last verification of the audit chain took.", (), "seconds"
    ),
    "audit_verified_entries": Family(
        Kind.GAUGE, "Entries of the audit chain at its last verification.", (), "entries"
    ),
    "audit_problems": Family(Kind.GAUGE, "Faults that the last verification found in the record."),
    "audit_gaps": Family(Kind.GAUGE, "Ranges of offsets recorded as never judged."),
}
