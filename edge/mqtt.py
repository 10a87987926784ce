"""The station's MQTT link: its fixed client id, its last will, the commands and receipts that it hears.

May import the contract and the configuration. The work is done by `inspector.contract.link`, which the virtual
PLC uses too; here stands only what makes a link a station's.
"""

from inspector.config import Config
from inspector.contract.link import BrokerLink
from inspector.contract.messages import State
from inspector.contract.session import Acknowledged, Connected, Event, Identity, Lost, Received, Token, Will
from inspector.contract.topics import Topics

__all__ = ["Acknowledged", "Connected", "Event", "Lost", "MqttLink", "Received", "Token"]


class MqttLink(BrokerLink):
    """Link of one station: hears its commands and the PLC's receipts; its death is said by the broker as state offline.

    `state` is any state of this run; its boot is what tells an old will from a new one.
    """

    def __init__(self, config: Config, state: State) -> None:
        self.topics = Topics(config.mqtt.prefix)
        super().__init__(
            config.mqtt,
            Identity(
                config.station.name,
                will=Will(self.topics.state, state.as_offline().to_json()),
                subscriptions=((self.topics.cmd_filter, 1), (self.topics.of("disp"), 1)),
            ),
        )
