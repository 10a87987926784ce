"""Judges messages by the published AsyncAPI document, and by nothing else: not by the models it was made from."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

DOCUMENT = Path(__file__).parents[1] / "docs" / "asyncapi.yaml"
URN = "urn:contract"


@dataclass(frozen=True)
class Emission:
    """One message on its way to the broker; None where only a subscriber saw it."""

    topic: str
    payload: bytes
    qos: int | None = None
    retain: bool | None = None


class Judge:
    """Says what is wrong with a message; topics that are none of the contract's are not judged."""

    def __init__(self, document: dict[str, Any] | None = None) -> None:
        self.document = document or yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
        self._registry = Registry().with_resource(URN, DRAFT7.create_resource(self.document))
        self._addresses = {
            name: re.compile(re.escape(channel["address"]).replace(re.escape("{prefix}"), ".+"))
            for name, channel in self.document["channels"].items()
        }

    def faults(self, emission: Emission) -> list[str]:
        """Everything that is wrong with a message, in words."""
        if "/vis1/" not in emission.topic:
            return []
        names = [name for name, pattern in self._addresses.items() if pattern.fullmatch(emission.topic)]
        if len(names) != 1:
            return [f"{emission.topic}: no channel of the document"]
        found = [*self._binding_faults(names[0], emission), *self._payload_faults(names[0], emission.payload)]
        return [f"{emission.topic}: {fault}: {emission.payload[:300]!r}" for fault in found]

    def payload_schema(self, name: str) -> tuple[str, dict[str, Any]]:
        """The pointer to the schema of a channel's only message, and the schema."""
        message = self._at(next(iter(self.document["channels"][name]["messages"].values()))["$ref"])
        pointer = message["payload"]["$ref"]
        return pointer, self._at(pointer)

    def _at(self, pointer: str) -> Any:
        node: Any = self.document
        for step in pointer.removeprefix("#/").split("/"):
            node = node[step]
        return node

    def _binding_faults(self, name: str, emission: Emission) -> Iterator[str]:
        reference = f"#/channels/{name}"
        [operation] = [one for one in self.document["operations"].values() if one["channel"]["$ref"] == reference]
        for key, actual in (("qos", emission.qos), ("retain", emission.retain)):
            expected = operation["bindings"]["mqtt"][key]
            if actual is not None and actual != expected:
                yield f"{key} must be {expected}, but is {actual}"

    def _payload_faults(self, name: str, payload: bytes) -> Iterator[str]:
        pointer, schema = self.payload_schema(name)
        if len(payload) > schema["x-max-bytes"]:
            yield f"{len(payload)} bytes; at most {schema['x-max-bytes']}"
        if schema.get("format") == "binary":
            if len(payload) != schema["minLength"]:
                yield f"{len(payload)} bytes; exactly {schema['minLength']}"
            return
        try:
            value = json.loads(payload.decode("ascii"))
        except ValueError as error:
            yield f"no ASCII JSON: {error}"
            return
        validator = Draft7Validator({"$ref": URN + pointer}, registry=self._registry)
        yield from (f"{error.json_path}: {error.message}" for error in validator.iter_errors(value))
        if schema["x-keys-in-order"] and isinstance(value, dict):
            in_order = {key: value[key] for key in schema["properties"] if key in value}
            if json.dumps(in_order, separators=(",", ":")).encode() != payload:
                yield "keys are not in order, once each and without blanks"


JUDGE = Judge()
