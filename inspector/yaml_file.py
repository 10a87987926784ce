"""YAML files whose faults can be told by their line.

May import the errors only; the configuration and its rescue read their files with it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from inspector.errors import ConfigError


@dataclass(frozen=True)
class Document:
    """A file as it stood when it was read, so that all that is said of it is said of the same text."""

    path: Path
    text: str
    node: yaml.Node | None
    """It knows its line."""
    values: Any
    """Unchecked."""


def read_document(path: Path) -> Document:
    """Read a file once; ConfigError if it cannot be read or is no YAML."""
    try:
        text = path.read_text(encoding="utf-8")
        return Document(path, text, yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}. Give the path of a YAML file with --config.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error


def refuse_repeated_keys(path: Path, node: yaml.Node | None) -> None:
    """YAML lets the last of two equal keys win in silence; a line must not run on the wrong one."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[Any, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise ConfigError(f"{path}:{line}: key {key.value!r} is set twice (first in line {seen[key.value]})")
            seen[key.value] = line
            refuse_repeated_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            refuse_repeated_keys(path, child)


def line_of(node: yaml.Node | None, keys: list[Any]) -> int:
    """Line of the deepest key of `keys` that stands in the file."""
    line = 1 if node is None else node.start_mark.line + 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [(name, value) for name, value in node.value if name.value == str(key)]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
    return line
