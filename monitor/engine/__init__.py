"""The engine: the one loop and its bookkeeping. It knows adapters only as `monitor.ports`."""

from monitor.engine.loop import Engine
from monitor.engine.settings import Settings, Totals

__all__ = ["Engine", "Settings", "Totals"]
