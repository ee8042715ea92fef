"""The catalogue of metrics as a page to read."""

from monitor.telemetry.catalogue import FAMILIES, OTHER, Bound, Label


def reference() -> str:
    """Return the page: every metric with its type, labels, their bounds and its meaning."""
    lines = [
        "# Metrics",
        "",
        "Made from `catalogue` by `python grafana/generate.py`. One daemon exports at most about",
        "`telemetry.max_series` series, whatever names the traffic has: values of a *guarded* label become",
        f"`{OTHER}` beyond `telemetry.max_label_values`, or when their metric is full, except those in",
        "`telemetry.allow` and those that budgets, rules and policies mention;",
        "`riskmon_label_overflow_total` counts that. A name without traffic for two hours gives its place,",
        "with its series, to a name that has none. Histograms add `_bucket`, `_sum` and `_count`;",
        "`process_…` and `python_gc_…` are those of the Prometheus client.",
        "",
        "| metric | type | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for name, family in sorted(FAMILIES.items()):
        labels = ", ".join(map(_described, family.labels)) or "none"
        lines.append(f"| `{family.exported(name)}` | {family.kind} | {labels} | {family.help} |")
    return "\n".join(lines) + "\n"


def _described(label: Label) -> str:
    match label.bound:
        case Bound.CLOSED:
            return f"`{label.name}` ({', '.join(label.values)})"
        case Bound.GUARDED:
            return f"`{label.name}` (guarded)"
        case Bound.CONFIG:
            return f"`{label.name}`"
