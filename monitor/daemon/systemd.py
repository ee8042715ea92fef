"""Tell systemd how a service of `Type=notify` is doing: the protocol of sd_notify(3) over `NOTIFY_SOCKET`."""

import os
import socket
from collections.abc import Mapping


def notify(state: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send a state such as `READY=1`, `WATCHDOG=1` or `STOPPING=1`; return whether a service manager listens.

    Never raises, and takes no lock, so that a signal handler may call it.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux's abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(1.0)
            sender.connect(address)
            sender.send(state.encode())
    except OSError:
        return False
    return True
