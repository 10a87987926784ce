"""`python -m edge.cameras CONFIG_JSON`: open each camera, take one frame, say what came (for `inspector doctor`)."""

import sys

from edge.cameras import make_camera
from edge.cameras.protocol import BadFrameError, IdleLineError
from edge.cameras.triggers import TriggerQueue
from inspector.config import CameraConfig, Config
from inspector.errors import CameraError
from inspector.framing import CropError


def check(config: CameraConfig) -> str:
    """Open the camera and take one frame; one that waits for triggers or for files is only opened.

    Raises:
        CameraError: the camera does not open, gives no frame in time, or one that its crop does not lie in.
    """
    camera = make_camera(config, TriggerQueue())
    camera.open()
    try:
        if config.trigger != "free" or config.watch:
            return f"{config.name} ({config.kind}) opens; it waits for {'new files' if config.watch else 'triggers'}"
        frame = camera.read(config.timeout_s)
    except IdleLineError:
        return f"{config.name} ({config.kind}) opens; its first frame is not due within {config.timeout_s:g} s"
    except BadFrameError as error:
        if isinstance(error.failure, CropError):
            raise error.failure from error
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
