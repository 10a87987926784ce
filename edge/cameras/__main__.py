"""`python -m edge.cameras CONFIG_JSON`: open each camera, take one frame, say what came (for `inspector doctor`)."""

import sys

from edge.cameras import make_camera
from edge.cameras.protocol import BadFrameError
from edge.cameras.triggers import TriggerQueue
from inspector.config import CameraConfig, Config
from inspector.errors import CameraError


def check(config: CameraConfig) -> str:
    """Open the camera and take one frame; a camera that waits for triggers is only opened.

    Raises:
        CameraError: the camera does not open or gives no frame in time.
    """
    camera = make_camera(config, TriggerQueue())
    camera.open()
    try:
        if config.trigger == "mqtt":
            return f"{config.name} ({config.kind}) opens; it waits for triggers"
        frame = camera.read(config.timeout_s)
    except BadFrameError as error:
        return f"{config.name} ({config.kind}) runs, but its first frame is bad: {error}"
    finally:
        camera.close()
    if frame is None:
        return f"{config.name} ({config.kind}) opens, but is at its end"
    height_px, width_px = frame.image.shape[:2]
    return f"{config.name} ({config.kind}) {width_px}×{height_px}"


def main() -> None:
    """Check all cameras of the configuration given as JSON; exit code 5 if one fails."""
    config = Config.model_validate_json(sys.argv[1])
    failed = False
    for camera in config.cameras:
        try:
            line = check(camera)
        except CameraError as error:
            failed, line = True, f"{camera.name} ({camera.kind}): {error}"
        sys.stdout.write(line + "\n")
    sys.exit(CameraError.exit_code if failed else 0)


if __name__ == "__main__":
    main()
