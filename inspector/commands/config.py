"""`inspector config`: check a configuration file, or print every key with its default and meaning."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel

from inspector.commands.options import JsonOption
from inspector.config import GENICAM_KINDS, CameraConfig, Config, load_config
from inspector.errors import ConfigError

app = typer.Typer(help="Check or explain the configuration.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(help="Configuration file (YAML).")]
HEADER = """\
# Every key with its default and its unit. A file of your own needs only the keys that differ.
# `inspector config check FILE` names each fault with its line.
"""


@app.command()
def check(file: FileArgument = Path("config.yaml"), as_json: JsonOption = False) -> None:
    """Check a configuration file; exit code 2 and one line per fault if it is wrong.

    A crop is compared with the size of the pictures where that can be known without opening the camera.

    Example: `inspector config check line1.yaml`
    """
    config = load_config(file)
    _check_crops(file, config)
    if as_json:
        typer.echo(json.dumps({"file": str(file), "ok": True, "changed": _changed(config)}))
        return
    changed = _changed(config)
    typer.echo(f"{file}: OK; {len(changed)} key{'' if len(changed) == 1 else 's'} differ from the defaults.")
    for key, value in changed.items():
        typer.echo(f"  {key} = {value}")
    typer.echo(f"Files are written below {config.data_path}")


@app.command()
def example() -> None:
    """Print a configuration file with every key, its default and its meaning.

    Example: `inspector config example > line1.yaml`
    """
    typer.echo(render_defaults(), nl=False)


def _check_crops(file: Path, config: Config) -> None:
    """Raise ConfigError for a crop that does not lie in pictures whose size can be known without opening the camera."""
    from inspector.framing import CropError, check_crop

    for camera in config.cameras:
        size_px = None if camera.crop is None else _known_size_px(camera)
        if size_px is not None:
            try:
                check_crop(camera, *size_px)
            except CropError as error:
                raise ConfigError(f"{file}: {error}") from error


def _known_size_px(camera: CameraConfig) -> tuple[int, int] | None:
    """Width and height of a camera's pictures, where the configuration, the drawing or a folder tells."""
    if camera.kind == "simulated":
        from inspector.simulation import HEIGHT_PX, WIDTH_PX

        return WIDTH_PX, HEIGHT_PX
    if camera.kind in GENICAM_KINDS:
        width_px, height_px = (camera.features.get(name) for name in ("Width", "Height"))
        return (width_px, height_px) if isinstance(width_px, int) and isinstance(height_px, int) else None
    if camera.kind == "folder":
        from inspector.images import SUFFIXES, read_image

        folder = Path(camera.source)
        there = sorted(folder.iterdir()) if folder.is_dir() else []
        first = next((path for path in there if path.suffix.lower() in SUFFIXES), None)
        if first is not None:
            height_px, width_px = read_image(first).shape[:2]
            return width_px, height_px
    return None


def render_defaults() -> str:
    """The text of `config.yaml`: every key of the model, its default and its description."""
    lines = [HEADER]
    for name, field in Config.model_fields.items():
        default = getattr(Config(), name)
        if name == "cameras":
            lines.append("cameras:  # one to sixteen")
            lines += _render_section(CameraConfig(), indent="    ", first="  - ")
        elif isinstance(default, BaseModel):
            lines.append(f"{name}:  # {(type(default).__doc__ or '').strip().rstrip('.')}")
            lines += _render_section(default, indent="  ", first="  ")
        else:
            lines.append(f"{name}: {_scalar(default)}  # {field.description}")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _render_section(section: BaseModel, *, indent: str, first: str) -> list[str]:
    lines = []
    for position, (name, field) in enumerate(type(section).model_fields.items()):
        key = f"{first if position == 0 else indent}{name}: {_scalar(getattr(section, name))}"
        lines.append(f"{key}  # {field.description}")
    return lines


def _scalar(value: Any) -> str:
    return "null" if value is None else yaml.safe_dump(value, default_flow_style=True).split("\n")[0]


def _changed(config: Config) -> dict[str, Any]:
    """Keys of `config` whose value is not the default, by dotted name."""
    default = _flatten(Config().model_dump(mode="json"))
    return {key: value for key, value in _flatten(config.model_dump(mode="json")).items() if default.get(key) != value}


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        pairs = [(str(key), child) for key, child in value.items()]
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        pairs = [(str(index), child) for index, child in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, child in pairs:
        flat |= _flatten(child, f"{prefix}.{key}" if prefix else key)
    return flat
