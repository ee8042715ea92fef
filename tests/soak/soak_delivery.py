"""Soak case: receivers that refuse alerts for a while, each in its way, get all of them in the end."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from patience import PATIENCE, eventually
from receivers import Receiver, receiver
from soak import tell
from solo_daemon import solo

ALERTS: Final = 500
SECONDS: Final = 60.0  # of refusals
REFUSALS: Final = (301, 302, 401, 403, 404, 405, 410, 500)


def refusals(share: float, folder: Path) -> Mapping[str, object]:
    """Alerts that arise while every receiver refuses them reach each one once it is well."""
    alerts = max(1, int(ALERTS * share))
    with ExitStack() as stack:
        got: dict[int, type[Receiver]] = {}
        hosts: dict[str, str] = {}
        for status in REFUSALS:
            location = {"location": "http://127.0.0.1:9/"}
            hosts[f"s{status}"], got[status] = stack.enter_context(receiver(status=status, reply=location))
        daemon = stack.enter_context(solo(folder, hosts, log=False))
        daemon.start(stack.enter_context((folder / "log").open("wb")).fileno())
        began = time.monotonic()
        daemon.post(0, alerts)
        due = alerts * len(got)
        eventually(lambda: len(daemon.outbox("--limit", str(due))) == due, "all of them wait", 10 * PATIENCE)
        time.sleep(max(0.0, SECONDS * share - (time.monotonic() - began)))
        refused = {status: len(each.got) for status, each in got.items()}
        tell(f"refusals: {refused}")
        keys = {row["key"] for row in daemon.outbox("--limit", str(due))}
        for each in got.values():
            each.status = 200
        well = time.monotonic()
        arrived = {status: lambda each=each: set(each.taken) == keys for status, each in got.items()}
        for status, has_all in arrived.items():
            eventually(has_all, f"the alerts after {status}", 10 * PATIENCE)
        figures = {
            "alerts": len(keys),
            "receivers": len(got),
            "refused": sum(refused.values()),
            "lost": sum(len(keys - set(each.taken)) for each in got.values()),
            "seconds_until_all_arrived": round(time.monotonic() - well, 1),
            "set_aside": len(daemon.outbox("--set-aside")),
        }
        assert (len(keys), figures["set_aside"]) == (alerts, 0), figures
        return figures
