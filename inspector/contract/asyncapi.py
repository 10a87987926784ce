"""The contract as an AsyncAPI 3.0 document, made from the models; `docs/asyncapi.yaml` is kept equal to it by a test.

May import the channels and their models, the defaults of the configuration, and PyYAML. Nothing is written here that a
model knows: names, order, ranges, lengths and the rules between two keys come from pydantic.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from inspector.config import MqttConfig
from inspector.contract.binary import LAYOUT, SIZE_BYTES
from inspector.contract.channels import CHANNELS, Channel, command_channels, example_bytes
from inspector.contract.meanings import meaning
from inspector.contract.messages import CommandMessage, Message
from inspector.contract.reports import Disposition
from inspector.contract.topics import MAX_LENGTH, MAX_LEVELS, Topics

CONTRACT_VERSION = "1.0.0"
MQTT_BINDING = "0.2.0"
BINARY_SCHEMA = "ResultBinary"
JSON_TYPE, BINARY_TYPE = "application/json", "application/octet-stream"
_PREFIX_PARAMETER = {"prefix": {"$ref": "#/components/parameters/prefix"}}
_NOTE = """\
What a station of Inspector says to a PLC, an MES and displays, and what it takes from them. Made from the models in
inspector/contract by `inspector contract asyncapi`; change those, not this file. MQTT 3.1.1 and QoS 1 are enough; where
the broker knows MQTT 5, messages on `result` carry their expiry. No verdict is ever retained, and none older than `win`
is ever sent on `result`. Messages are ASCII JSON of at most x-max-bytes; where x-keys-in-order is true, keys come once
each, in the order of the schema, and without blanks."""


def build_document() -> dict[str, Any]:
    """The whole document, ready to be written as YAML or JSON."""
    channels = [*CHANNELS, *command_channels()]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Inspector: contract with the PLC",
            "version": CONTRACT_VERSION,
            "description": " ".join(_NOTE.split()),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JSON_TYPE,
        "servers": _servers(),
        "channels": {_key(channel): _channel(channel) for channel in channels},
        "operations": {f"{channel.action}_{_key(channel)}": _operation(channel) for channel in channels},
        "components": {
            "parameters": {"prefix": _prefix_parameter()},
            "messages": {_message_name(channel): _message(channel) for channel in channels},
            "schemas": _schemas(channels),
            "securitySchemes": {
                "login": {"type": "userPassword", "description": "mqtt.username and mqtt.password_file"},
                "certificate": {"type": "X509", "description": "mqtt.cert_file and mqtt.key_file"},
            },
        },
    }


def render_yaml() -> str:
    """The document as YAML, with every reference written out."""
    return yaml.dump(build_document(), Dumper=_PlainDumper, sort_keys=False, width=120, allow_unicode=True)


def render_json() -> str:
    """The document as JSON."""
    return json.dumps(build_document(), indent=2, ensure_ascii=False) + "\n"


class _PlainDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _servers() -> dict[str, Any]:
    config = MqttConfig()
    login, certificate = ({"$ref": f"#/components/securitySchemes/{name}"} for name in ("login", "certificate"))
    will = {"topic": "{prefix}/vis1/state", "qos": 1, "retain": True, "message": "the state with on 0 and st 0"}
    client = {"keepAlive": config.keepalive_s, "cleanSession": True, "lastWill": will, "bindingVersion": MQTT_BINDING}
    variables = {"host": {"default": "broker.example", "description": "mqtt.host"}}
    plain = {
        "host": "{host}:1883",
        "protocol": "mqtt",
        "protocolVersion": "3.1.1",
        "description": "Without encryption, for a closed network. The client id is the station's name, fixed and unique.",
        "variables": variables,
        "security": [login],
        "bindings": {"mqtt": client},
    }
    tls = {
        "host": "{host}:8883",
        "protocol": "secure-mqtt",
        "description": "With TLS; the client shows a login, a certificate, or both.",
        "security": [login, certificate],
    }
    return {"plain": plain, "tls": plain | tls}


def _prefix_parameter() -> dict[str, Any]:
    return {
        "description": f"mqtt.prefix, free (ISA-95: enterprise/site/area/line/cell); with /vis1 at most {MAX_LEVELS} levels "
        f"and {MAX_LENGTH} characters",
        "examples": [MqttConfig().prefix],
    }


def _key(channel: Channel) -> str:
    return channel.kind.replace("/", "_")


def _message_name(channel: Channel) -> str:
    return "".join(word.capitalize() for word in _key(channel).split("_"))


def _channel(channel: Channel) -> dict[str, Any]:
    name = _message_name(channel)
    return {
        "address": f"{Topics('{prefix}').base}/{channel.kind}",
        "summary": channel.summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "parameters": _PREFIX_PARAMETER,
    }


def _operation(channel: Channel) -> dict[str, Any]:
    binding: dict[str, Any] = {"qos": channel.qos, "retain": channel.retain, "bindingVersion": MQTT_BINDING}
    if channel.kind in ("result", "resultb"):
        binding["messageExpiryInterval"] = MqttConfig().window_ms // 1000
    operation: dict[str, Any] = {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{_key(channel)}"},
        "summary": channel.summary,
        "messages": [{"$ref": f"#/channels/{_key(channel)}/messages/{_message_name(channel)}"}],
        "bindings": {"mqtt": binding},
    }
    if issubclass(channel.model, CommandMessage):
        operation["reply"] = {
            "channel": {"$ref": "#/channels/ack"},
            "messages": [{"$ref": "#/channels/ack/messages/Ack"}],
        }
    return operation


def _message(channel: Channel) -> dict[str, Any]:
    data = example_bytes(channel)
    message: dict[str, Any] = {
        "name": _key(channel),
        "summary": channel.summary,
        "contentType": BINARY_TYPE if channel.is_binary else JSON_TYPE,
        "payload": {"$ref": f"#/components/schemas/{_schema_name(channel)}"},
    }
    if channel.is_binary:
        message["x-example-hex"] = data.hex()
    else:
        message["examples"] = [{"name": _key(channel), "payload": json.loads(data)}]
    return message


def _schema_name(channel: Channel) -> str:
    return BINARY_SCHEMA if channel.is_binary else channel.model.__name__


def _schemas(channels: list[Channel]) -> dict[str, Any]:
    schemas: dict[str, Any] = {}
    for channel in channels:
        name = _schema_name(channel)
        if name not in schemas:
            schemas |= {name: _binary_schema()} if channel.is_binary else dict(_model_schemas(channel.model))
    return schemas


def _model_schemas(model: type[Message]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schema of a model and of those inside it; all keys are required where the station writes them all."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
    inner: dict[str, Any] = schema.pop("$defs", {})
    schema["x-max-bytes"], schema["x-keys-in-order"] = model.limit_bytes, model.canonical
    models = {model.__name__: model} | {cls.__name__: cls for cls in _inner_models(model)}
    for name, body in {model.__name__: schema, **inner}.items():
        yield name, _cleaned(body, models[name])


def _inner_models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for field in model.model_fields.values():
        annotation: Any = field.annotation
        for part in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield part


def _cleaned(schema: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    properties = {key: _described(dict(body), meaning(model, key)) for key, body in schema["properties"].items()}
    cleaned = {key: value for key, value in schema.items() if key not in ("title", "properties", "required")}
    taken = issubclass(model, CommandMessage | Disposition)
    optional = {key for key, field in model.model_fields.items() if taken and key != "v" and not field.is_required()}
    required = [key for key in properties if key not in optional]
    return {**cleaned, "properties": properties, "required": required}


def _described(schema: dict[str, Any], text: str) -> dict[str, Any]:
    schema.pop("title", None)
    schema.pop("default", None)
    return {"description": text, **schema}


def _binary_schema() -> dict[str, Any]:
    layout: list[Mapping[str, Any]] = [
        {"name": field.name, "offset": field.offset, "bytes": field.size_bytes} for field in LAYOUT
    ]
    return {
        "type": "string",
        "format": "binary",
        "minLength": SIZE_BYTES,
        "maxLength": SIZE_BYTES,
        "description": "The fields of Result at fixed places, in the byte order of the configuration; magic is 0xA5, part is "
        "filled with zero bytes, crc is CRC-32 (zlib) over all bytes before it. Length is in bytes.",
        "x-layout": layout,
        "x-max-bytes": SIZE_BYTES,
    }
