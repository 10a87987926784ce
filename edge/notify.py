"""Tells systemd that the service is ready and alive (`sd_notify`), where it asks for it; elsewhere it does nothing.

One datagram to the socket that systemd names in the environment; see the manual page sd_notify(3).
"""

import logging
import os
import socket

log = logging.getLogger(__name__)


def notify(*lines: str) -> None:
    """Send lines such as `READY=1`, `WATCHDOG=1`, `STATUS=…`, `STOPPING=1`; a failure is logged and harms nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # Linux' abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect(address)
            channel.sendall("\n".join(lines).encode())
    except OSError as error:
        log.warning("systemd could not be told %s: %s", lines, error)
