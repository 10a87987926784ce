"""`inspector camera`: raw pictures of a camera as the station sees them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from inspector.commands.options import ConfigOption, JsonOption
from inspector.config import CameraConfig, Config, load_config
from inspector.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="What the station sees of a camera's pictures: crop, flip and rotation.")


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="Name of the camera in the configuration.")],
    images: Annotated[list[Path], typer.Argument(help="Raw pictures of it, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the prepared pictures (PNG).")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Crop, flip and turn raw pictures as the worker does, for references, labels and `inspector score`.

    Everything but a camera takes pictures as they are: uploads and folders have to hold prepared ones.

    Example: `inspector camera prepare top raw/ --out good/ --config line1.yaml`
    """
    from inspector.framing import framed
    from inspector.images import encode_png, list_images, read_image

    camera = _camera(load_config(config), name)
    paths = [path for given in images for path in (list_images(given) if given.is_dir() else [given])]
    targets = [out / f"{path.stem}.png" for path in paths]
    twice = sorted({target.name for target in targets if targets.count(target) > 1})
    if twice or any(target.exists() for target in targets):
        names = ", ".join(twice) or ", ".join(target.name for target in targets if target.exists())
        raise UsageError(
            f"{out}: would be overwritten: {names}; give another folder, or pictures with names of their own"
        )
    prepared = [framed(read_image(path), camera) for path in paths]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for target, picture in zip(targets, prepared, strict=True):
            target.write_bytes(encode_png(picture))
    except OSError as error:
        raise UsageError(f"{out}: cannot be written: {error.strerror}") from error
    if as_json:
        typer.echo(json.dumps({"camera": name, "pictures": [str(target) for target in targets]}))
        return
    typer.echo(f"{len(targets)} picture{'' if len(targets) == 1 else 's'} prepared as camera {name} does, in {out}")


def _camera(config: Config, name: str) -> CameraConfig:
    for camera in config.cameras:
        if camera.name == name:
            return camera
    known = ", ".join(camera.name for camera in config.cameras)
    raise UsageError(f"there is no camera {name!r} in the configuration; there are: {known}")
