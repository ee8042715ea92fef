"""The observer that turns reports of the engine and of delivery into metrics, logs and spans."""

from monitor.ports import Observer
from monitor.telemetry.observer.delivery import DeliveryReports
from monitor.telemetry.observer.detectors import DetectorReports
from monitor.telemetry.observer.engine import EngineReports
from monitor.telemetry.observer.ledger import LedgerReports
from monitor.telemetry.observer.sources import SourceReports

__all__ = ["TelemetryObserver"]


class TelemetryObserver(
    EngineReports, DetectorReports, SourceReports, LedgerReports, DeliveryReports, Observer
):
    """Turns reports of the engine and of delivery into metrics, log lines and spans.

    Thread-safe: the engine's thread and a delivery thread may call at the same time.
    """
