# ruff: noqa: INP001 - beside a script, not in a package
"""Dashboards for those who run riskmon: the pipeline; what people and the retraining job get."""

from typing import Final

from panels import Board, Panel, Row, gauge, process, quantile, rate, share

PIPELINE: Final = Board(
    "riskmon-pipeline",
    "riskmon / Pipeline",
    "Where traces are, what slows them, and what it costs.",
    (
        Row(
            "Intake",
            (
                Panel(
                    "Lag by partition",
                    "Records of a partition that were not yet delivered.",
                    "short",
                    ((gauge("lag_records", "topic, partition"), "{{topic}}/{{partition}}"),),
                ),
                Panel(
                    "Queues",
                    "Traces waiting in a stage.",
                    "short",
                    ((gauge("queue_traces", "stage"), "{{stage}}"),),
                    stacked=True,
                ),
                Panel(
                    "Dead letters by reason",
                    "Records that no decoder could read.",
                    "cps",
                    ((rate("records_dead_lettered", "topic, reason"), "{{topic}} {{reason}}"),),
                ),
                Panel(
                    "Assembly of spans",
                    "Traces whose spans were taken as complete, by why.",
                    "cps",
                    ((rate("traces_assembled", "completion"), "{{completion}}"),),
                    empty="no spans are read",
                ),
            ),
            4,
        ),
        Row(
            "Detectors",
            (
                Panel(
                    "Answers by status",
                    "One answer per trace and detector; time-outs and errors are not judged.",
                    "cps",
                    ((rate("assessments", "detector, status"), "{{detector}} {{status}}"),),
                ),
                Panel(
                    "Unscored by reason",
                    "Why answers have no score.",
                    "cps",
                    ((rate("assessments_unscored", "detector, reason"), "{{detector}} {{reason}}"),),
                ),
                Panel(
                    "Time per trace",
                    "The time that 95 % of the traces stay below, by detector.",
                    "s",
                    ((quantile(0.95, "detector_duration_seconds", "detector"), "{{detector}}"),),
                ),
                Panel(
                    "Seen by higher tiers",
                    "Share of the traces that a higher tier has seen.",
                    "percentunit",
                    (
                        (
                            share(
                                rate("tier_decisions", "detector, tier", 'decision="looked"'),
                                rate("tier_decisions", "detector, tier"),
                            ),
                            "{{detector}} tier {{tier}}",
                        ),
                    ),
                ),
                Panel(
                    "Left out by higher tiers",
                    "Share of the traces that a higher tier should have seen and did not, for want of time.",
                    "percentunit",
                    (
                        (
                            share(
                                rate("tier_decisions", "detector, tier", 'decision="left_out"'),
                                rate("tier_decisions", "detector, tier"),
                            ),
                            "{{detector}} tier {{tier}}",
                        ),
                    ),
                ),
                Panel(
                    "Workers",
                    "Detector processes configured and ready, and batches being judged.",
                    "short",
                    (
                        (gauge("pool_workers"), "configured"),
                        (gauge("pool_workers_ready"), "ready"),
                        (gauge("pool_batches_in_flight"), "batches in flight"),
                    ),
                ),
                Panel(
                    "Workers replaced",
                    "Detector processes that had to be replaced, by cause.",
                    "cps",
                    ((rate("worker_restarts", "cause"), "{{cause}}"),),
                    empty="nothing went wrong",
                ),
                Panel(
                    "Batch size",
                    "Traces the next batch should hold.",
                    "short",
                    ((gauge("pool_batch_size_traces", "instance", "max"), "{{instance}}"),),
                ),
            ),
            4,
        ),
        Row(
            "Broker, ledger, delivery, process",
            (
                Panel(
                    "Broker connected",
                    "1 while a daemon is connected to a broker, 0 while it reaches none.",
                    "short",
                    ((gauge("kafka_connected", "instance", "min"), "{{instance}}"),),
                ),
                Panel(
                    "Member of its group",
                    "1 while a daemon is a live member of its consumer group, 0 while it is none.",
                    "short",
                    ((gauge("kafka_member", "instance", "min"), "{{instance}}"),),
                ),
                Panel(
                    "Partitions read by nobody",
                    "As Kafka tells of the whole group, per topic.",
                    "short",
                    ((gauge("partitions_unread", "topic", "max"), "{{topic}}"),),
                    empty="Kafka does not say",
                ),
                Panel(
                    "Ledger writable",
                    "1 when the last attempt to write the ledger succeeded, 0 while it is tried again.",
                    "short",
                    ((gauge("ledger_writable", "instance", "min"), "{{instance}}"),),
                ),
                Panel(
                    "Ledger transaction",
                    "Time of one transaction, commit included.",
                    "s",
                    (
                        (quantile(0.5, "ledger_transaction_seconds"), "p50"),
                        (quantile(0.99, "ledger_transaction_seconds"), "p99"),
                    ),
                ),
                Panel(
                    "Incidents",
                    "What the engine had to cope with.",
                    "cps",
                    ((rate("incidents", "incident"), "{{incident}}"),),
                ),
                Panel(
                    "Deliveries",
                    "Messages offered, by outcome: failed ones are tried again, rejected ones are set aside.",
                    "cps",
                    ((rate("deliveries", "destination, outcome"), "{{destination}} {{outcome}}"),),
                ),
                Panel(
                    "Outbox",
                    "Messages waiting for a destination.",
                    "short",
                    ((gauge("outbox_pending", "destination"), "{{destination}}"),),
                    empty="nothing waits",
                ),
                Panel(
                    "Processor time",
                    "Cores used by the engine's process; its workers are others.",
                    "short",
                    ((process("process_cpu_seconds_total"), "{{instance}}"),),
                ),
                Panel(
                    "Memory",
                    "Resident memory of the engine's process; its workers are others.",
                    "bytes",
                    ((process("process_resident_memory_bytes"), "{{instance}}"),),
                ),
            ),
            4,
        ),
    ),
)

REVIEW: Final = Board(
    "riskmon-review",
    "riskmon / Review and feedback",
    "What people and the retraining job get, and whether the record of it holds.",
    (
        Row(
            "On record",
            (
                Panel(
                    "Flags kept",
                    "Flags that the ledger keeps.",
                    "short",
                    ((gauge("ledger_rows", how="max", where='table="flags"'), "flags"),),
                    "stat",
                ),
                Panel(
                    "Feedback items kept",
                    "Redacted examples that can be exported for retraining.",
                    "short",
                    ((gauge("ledger_rows", how="max", where='table="feedback"'), "items"),),
                    "stat",
                ),
                Panel(
                    "Dead letters kept",
                    "Records put aside, encrypted; those judged again included.",
                    "short",
                    ((gauge("ledger_rows", how="max", where='table="dead_letters"'), "letters"),),
                    "stat",
                ),
                Panel(
                    "Audit entries",
                    "Entries of the audit chain at its last verification.",
                    "short",
                    ((gauge("audit_verified_entries", how="max"), "entries"),),
                    "stat",
                ),
                Panel(
                    "Audit problems",
                    "Places where the last verification found the record to be false.",
                    "short",
                    ((gauge("audit_problems", how="max"), "problems"),),
                    "stat",
                    0,
                ),
                Panel(
                    "Gaps on record",
                    "Ranges of offsets that are on record as never judged.",
                    "short",
                    ((gauge("audit_gaps", how="max"), "gaps"),),
                    "stat",
                    0,
                ),
            ),
            6,
        ),
        Row(
            "Flows",
            (
                Panel(
                    "Sent to review",
                    "Flags whose rule asks for a person, by severity.",
                    "cps",
                    ((rate("flag_actions", "severity", 'action="review"'), "{{severity}}"),),
                    stacked=True,
                ),
                Panel(
                    "Actions",
                    "What rules wanted done with flags.",
                    "cps",
                    ((rate("flag_actions", "action"), "{{action}}"),),
                ),
                Panel(
                    "Flags by rule",
                    "Flags raised, by rule; a point leads to its flags in the review console.",
                    "cps",
                    ((rate("flags", "rule"), "{{rule}}"),),
                    stacked=True,
                    review=True,
                    empty="nothing went wrong",
                ),
                Panel(
                    "Ledger growth",
                    "Rows that the ledger keeps, by table.",
                    "short",
                    ((gauge("ledger_rows", "table", "max"), "{{table}}"),),
                ),
                Panel(
                    "Delivered feedback and alerts",
                    "Messages that their destination took.",
                    "cps",
                    ((rate("deliveries", "destination", 'outcome="delivered"'), "{{destination}}"),),
                ),
                Panel(
                    "Verification",
                    "Time the last verification of the audit chain took.",
                    "s",
                    ((gauge("audit_verification_duration_seconds", "instance", "max"), "{{instance}}"),),
                ),
            ),
            3,
        ),
    ),
)
