"""Says an alarm for a station whose worker cannot: one connection, one retained message, and out.

May import the contract and the configuration. The next worker that starts replaces the message by its own.
"""

import queue
import threading
import time

from edge.alarms import AlarmBoard
from inspector.config import Config
from inspector.contract.codes import ErrorCode
from inspector.contract.link import BrokerLink
from inspector.contract.session import Acknowledged, Identity
from inspector.contract.topics import Topics
from inspector.errors import BrokerError

PATIENCE_S = 10.0


def say(config: Config, err: ErrorCode, text: str, boot: int = 0) -> None:
    """Publish the alarm under the station's own client id; nothing else may be connected with it.

    Raises:
        BrokerError: the broker did not take it in time.
    """
    board = AlarmBoard(time.time)
    board.up(err, text)
    link = BrokerLink(config.mqtt, Identity(config.station.name))
    answers = link.listen(Acknowledged)
    link.start()
    try:
        until, waiting = time.monotonic() + PATIENCE_S, threading.Event()
        topic, payload = Topics(config.mqtt.prefix).alarm, board.message(boot).to_json()
        while time.monotonic() < until:
            if link.publish(topic, payload, qos=1, retain=True) is not None:
                answers.get(timeout=PATIENCE_S)
                return
            waiting.wait(0.1)
        raise BrokerError(f"the broker {config.mqtt.host}:{config.mqtt.port} cannot be reached: {link.problem}")
    except queue.Empty as error:
        raise BrokerError("the broker did not acknowledge the alarm") from error
    finally:
        link.stop()
