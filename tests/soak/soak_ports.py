"""Soak case: one peer that does its worst to the HTTP ports, which ask for no token, beside a busy engine."""

import gzip
import http.client
import itertools
import os
import socket
import statistics
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

from daemons import Daemon, Rig, value_of
from patience import PATIENCE, eventually
from port_attacks import ATTACKS, TRACES, attacked
from soak import tell

from monitor.config import DetectorsConfig
from monitor.demo.broker import EmbeddedBroker

ROUNDS: Final = 6  # of each attack, and as many without, in turn
SECONDS: Final = 6.0  # of each
AHEAD: Final = 40_000  # records that always wait
NOOP: Final = {
    name: {"factory": "monitor.detect.noop:build", "options": {"name": name}}
    for name in DetectorsConfig.model_fields
}
RECEIVER: Final = {"enabled": True, "port": 0}
EMPTY: Final = gzip.compress(b"\x0a\x00" * 2**22)  # empty resources, 8 KiB
AT_ONCE: Final = 8
UPLOAD: Final = 2_500_000  # bytes of a span that an honest client sends for 2.5 s
LIVE_SECONDS: Final = 2.0  # for an answer of /livez; a SYN is sent again after 1, Kubernetes' probe allows 4
SHARE: Final = 0.5  # of a core that an attack costs the engine's process


class Window(NamedTuple):
    """Records a second, processor seconds a record, and the longest that /livez took."""

    rate: float
    cpu: float
    livez: float


class Ports:
    """A daemon whose topic never runs dry, and what is measured of it."""

    def __init__(self, rig: Rig[EmbeddedBroker]) -> None:
        self._rig = rig
        self.daemon: Daemon = rig.daemon(receiver=RECEIVER)
        eventually(self.daemon.ready, "ready", 3 * PATIENCE)
        self.receiver = self.daemon.receiver_port()
        self.http = int(
            [event for event in self.daemon.events() if event.get("event") == "started"][-1]["port"]
        )
        self._stopping = threading.Event()
        self._feeder = threading.Thread(target=self._feed)
        self._feeder.start()
        eventually(lambda: self.recorded() > 0, "the engine to judge")

    def recorded(self) -> float:
        """Records with their outcome on record."""
        return self.daemon.metric("riskmon_records_recorded_total")

    def close(self) -> None:
        """Feed no more."""
        self._stopping.set()
        self._feeder.join()

    def _feed(self) -> None:
        numbers = itertools.count()
        while not self._stopping.wait(0.1):
            while self._rig.produced < self.recorded() + AHEAD:
                self._rig.produce([value_of(7 + 50 * next(numbers)) for _ in range(5_000)])

    def cpu(self) -> float:
        """Processor seconds that the daemon has used, without its workers."""
        fields = Path(f"/proc/{self.daemon.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def window(self, seconds: float) -> Window:
        """Measure for so long."""
        began, before, used = time.monotonic(), self.recorded(), self.cpu()
        longest = 0.0
        while time.monotonic() < began + seconds:
            asked = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=PATIENCE)
            connection.request("GET", "/livez")
            assert connection.getresponse().status == 200
            connection.close()
            longest = max(longest, time.monotonic() - asked)
            time.sleep(0.05)
        records = max(1.0, self.recorded() - before)
        return Window(records / (time.monotonic() - began), (self.cpu() - used) / records, longest)

    def peak(self) -> int:
        """The daemon's largest memory so far, in MiB."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text(encoding="ascii")
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) // 1024

    def post(self, body: bytes) -> int:
        """Send a compressed body to the receiver; its answer's status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.receiver, timeout=PATIENCE)
        headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        connection.request("POST", "/v1/traces", body, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    def upload(self) -> int:
        """Send a body of a large span in pieces for 2.5 s; the answer's status, 0 if it was cut off."""
        text = b"x" * UPLOAD
        content = text
        for tag in (b"\x2a", b"\x12", b"\x12", b"\x0a"):  # a name, its span, scope and group
            content = tag + _varint(len(content)) + content
        try:
            with socket.create_connection(("127.0.0.1", self.receiver), timeout=PATIENCE) as peer:
                peer.sendall(f"{TRACES}Content-Length: {len(content)}\r\n\r\n".encode())
                for at in range(0, len(content), UPLOAD // 25):
                    peer.sendall(content[at : at + UPLOAD // 25])
                    time.sleep(0.1)
                return int(peer.recv(100).split()[1])
        except OSError:
            return 0


def ports(share: float, folder: Path) -> Mapping[str, object]:
    """The engine goes on, a probe is answered, an upload survives, and memory stays."""
    figures: dict[str, Any] = {}
    with EmbeddedBroker() as broker, Rig(folder, broker, detectors=NOOP) as rig:
        of = Ports(rig)
        try:
            for name in ATTACKS:
                figures[name] = _attack(of, name, max(1, round(ROUNDS * share)))
                tell(f"ports: {name} {figures[name]}")
            with attacked("idlers", of.http, of.receiver):
                time.sleep(1.0)
                figures["uploads"] = [of.upload() for _ in range(3)]
            before = of.peak()
            with ThreadPoolExecutor(AT_ONCE) as clients:
                statuses = set(clients.map(of.post, [EMPTY] * AT_ONCE))
            figures["empty_messages"] = {"statuses": sorted(statuses), "grown_mebibytes": of.peak() - before}
            tell(f"ports: {figures}")
        finally:
            of.close()
    assert figures["uploads"] == [200] * 3
    assert figures["empty_messages"]["grown_mebibytes"] < 64
    assert all(figures[name]["livez_seconds"] < LIVE_SECONDS for name in ATTACKS)
    assert all(figures[name]["core_share"] < SHARE for name in ATTACKS)
    return figures


def _attack(of: Ports, name: str, rounds: int) -> dict[str, float]:
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(of.window(SECONDS))
        with attacked(name, of.http, of.receiver):
            time.sleep(1.0)
            beside.append(of.window(SECONDS))
    pairs = [*zip(beside, alone, strict=True)]
    return {
        "alone": round(statistics.median(window.rate for window in alone)),
        "beside": round(statistics.median(window.rate for window in beside)),
        "ratio": round(statistics.median(bad.rate / good.rate for bad, good in pairs), 2),
        "core_share": round(statistics.median((bad.cpu - good.cpu) * bad.rate for bad, good in pairs), 2),
        "livez_alone": round(max(window.livez for window in alone), 3),
        "livez_seconds": round(max(window.livez for window in beside), 3),
    }


def _varint(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])
