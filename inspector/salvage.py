"""What a station may believe of its configuration file before it starts, and what of a wrong one can be used all the same.

May import the configuration. What is salvaged is enough to tell a PLC that the configuration is wrong (`edge/safe_state.py`);
nothing is ever inspected with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from inspector.config import BrokerConfig, Config, StationConfig, load_config, resolve_paths
from inspector.errors import ConfigError
from inspector.yaml_file import Document, line_of, read_document, refuse_repeated_keys

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Salvaged:
    """The sections that are right; those of `wrong` have their defaults and mean nothing."""

    config: Config
    wrong: frozenset[str]

    @property
    def client_id(self) -> str:
        """The station's name, or where that is wrong an id that is as fixed and no other station's."""
        if "station" in self.wrong:
            return f"{self.config.mqtt.prefix.replace('/', '-')}-without-name"
        return self.config.station.name

    @property
    def identity(self) -> tuple[object, ...]:
        """What a connection made with it depends on."""
        return self.client_id, self.config.mqtt, self.config.data_path


def load_sound(source: Path | Document | None) -> Config:
    """The configuration of a file, or of one that was read (None: the defaults), if the files exist that it names.

    Folders and files that a camera reads are not asked for: they may come later, as a camera may.

    Raises:
        ConfigError: a key or value is wrong, or a file is missing; each fault with its line.
    """
    document = read_document(source) if isinstance(source, Path) else source
    config = load_config(document)
    missing = list(_missing_files(config))
    if document is not None and missing:
        names = [".".join(map(str, keys)) for keys, _ in missing]
        places = [f"{document.path}:{line_of(document.node, list(keys))}" for keys, _ in missing]
        faults = [
            f"{place}: {name}: there is no file {file}"
            for place, name, (_, file) in zip(places, names, missing, strict=True)
        ]
        raise ConfigError("\n".join(faults))
    return config


def salvage(document: Document) -> Salvaged | None:
    """The sections of a wrong configuration that are right; None if the broker's settings are not among them."""
    path, node, values = document.path, document.node, document.values
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        return None
    wrong = {key.value for key, _ in _repeated(path, node)}
    if "mqtt" not in values and any(key not in Config.model_fields for key in values):
        return None  # the unknown key may be a mistyped `mqtt`: its defaults could be another station's topics
    config = _validated(values, wrong)
    if "mqtt" in wrong or any(
        keys[0] == "mqtt" for keys, _ in _missing_files(resolve_paths(config, path.absolute().parent))
    ):
        return None
    return Salvaged(resolve_paths(config, path.absolute().parent), frozenset(wrong))


def _validated(values: dict[Any, Any], wrong: set[str]) -> Config:
    """Leave out one wrong section after the other, and put it into `wrong`."""
    values = values | _named_station(values.get("station"))
    while True:
        try:
            return Config.model_validate(
                {key: value for key, value in values.items() if key in Config.model_fields and key not in wrong}
            )
        except ValidationError as error:
            # A fault without a place is one between the cameras.
            wrong |= {str(fault["loc"][0]) if fault["loc"] else "cameras" for fault in error.errors()}


def _named_station(station: Any) -> dict[str, StationConfig]:
    """The station, if its name is beyond doubt, whatever else stands there; nothing where it is not named at all."""
    if not isinstance(station, dict) or "name" not in station:
        return {}
    try:
        return {"station": StationConfig(name=station["name"])}
    except ValidationError:
        return {}


def _repeated(path: Path, node: yaml.MappingNode) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Sections that stand twice, or have a key that does."""
    seen: set[str] = set()
    for key, value in node.value:
        try:
            refuse_repeated_keys(path, value)
        except ConfigError:
            yield key, value
        if key.value in seen:
            yield key, value
        seen.add(key.value)


def _missing_files(config: Config) -> Iterator[tuple[Keys, Path]]:
    """Key and path of each file that the station needs at its start and that is not there."""
    for keys, file in _named_files(config):
        if file is not None and not file.is_file():
            yield keys, file


def _named_files(config: Config) -> Iterator[tuple[Keys, Path | None]]:
    encoder = config.encoder
    if encoder.name.endswith(".json"):
        yield ("encoder", "name"), Path(encoder.name)
    if encoder.pretrained is not None and encoder.pretrained.endswith((".safetensors", ".pt")):
        yield ("encoder", "pretrained"), Path(encoder.pretrained)
    if encoder.adapters is not None:
        yield ("encoder", "adapters"), Path(encoder.adapters)
    brokers: list[BrokerConfig] = [config.mqtt, *([config.sparkplug] if config.sparkplug.enabled else [])]
    for broker in brokers:
        for name in ("password_file", "ca_file", "cert_file", "key_file"):
            yield (broker.section, name), getattr(broker, name)
    for number, camera in enumerate(config.cameras):
        yield ("cameras", number, "producer"), camera.producer
