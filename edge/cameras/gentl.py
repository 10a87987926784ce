"""A GenICam camera by Harvesters and its vendor's GenTL producer (`.cti`); the only module that imports Harvesters.

Harvesters is the optional extra `harvesters`; it is imported when a camera is opened. A producer is loaded once per
process, and cannot look for cameras while one of its own runs: several that have to come back each by itself are isolated
(`isolate: true`), so that each has a producer of its own. Harvesters throws incomplete frames away itself: they show as
numbers that are left out.
"""

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge.cameras.features import SOFTWARE_TRIGGER, Settings, Value
from edge.cameras.streaming import Grab
from inspector.config import CameraConfig
from inspector.errors import CameraLostError

logger = logging.getLogger(__name__)

BUFFERS = 16

_loading = threading.Lock()


@dataclass
class Producer:
    """A loaded producer; `users` cameras of this process are open."""

    harvester: Any
    users: int = 0


_producers: dict[Path, Producer] = {}


def load_producer(path: Path) -> Producer:
    """The producer of this file, loaded once. Raises CameraLostError with a sentence when there is none to be had."""
    if not path.is_file():
        raise CameraLostError(f"the GenTL producer {path} does not exist; set `producer` to the vendor's .cti file")
    try:
        from genicam.gentl import GenericException
        from harvesters.core import Harvester
    except ImportError as error:
        raise CameraLostError(
            f"Harvesters is not usable here ({error}); install the extra: pip install 'inspector[harvesters]'"
        ) from error
    with _loading:
        if path not in _producers:
            harvester = Harvester()
            try:
                harvester.add_file(str(path), check_validity=True)
            except (GenericException, OSError) as error:
                harvester.reset()
                raise CameraLostError(f"{path} cannot be loaded as a GenTL producer: {error}") from error
            _producers[path] = Producer(harvester)
        return _producers[path]


class HarvestersDevice:
    """One connection to one camera of a producer."""

    def __init__(self, config: CameraConfig) -> None:
        if config.producer is None:
            raise CameraLostError("`producer` is not set; it names the vendor's .cti file")
        self._config = config
        self._producer = load_producer(config.producer)
        from genicam import genapi, gentl

        self._genapi, self._gentl = genapi, gentl
        self._failures = (genapi.GenericException, gentl.GenericException)
        self._acquirer: Any = None
        self._nodes: Any = None

    def connect(self) -> str:
        """Raises CameraLostError with a sentence."""
        try:
            with _loading:
                if not self._producer.users:  # it would close the library under the cameras that run
                    self._producer.harvester.update()
                self._acquirer = self._producer.harvester.create(self._index())
                self._producer.users += 1
            self._nodes = self._acquirer.remote_device.node_map
            pixel_format = Settings(self._config, self).apply()
            self._acquirer.num_buffers = max(BUFFERS, self._acquirer.min_num_buffers)
            self._acquirer.start()
        except self._failures as error:
            raise CameraLostError(f"{self._config.source or 'the camera'}: {error}") from error
        return pixel_format

    def fetch(self, timeout_s: float) -> Grab | None:
        """Raises CameraLostError when the producer says that the camera is gone."""
        try:
            buffer = self._acquirer.fetch(timeout=timeout_s)
        except self._gentl.TimeoutException:
            return None
        except self._failures as error:
            raise CameraLostError(f"the camera gives no more frames: {error}") from error
        now = time.monotonic()
        if buffer is None:
            return None
        with buffer:
            number = buffer.module.frame_id
            pictures = [part for part in buffer.payload.components if part.data is not None and part.data.size]
            if len(pictures) != 1:
                return Grab(number, now, problem=f"expected one picture in a frame, but got {len(pictures)}")
            picture = pictures[0]
            data = np.array(picture.data, copy=True).view(np.uint8).reshape(-1)
            return Grab(number, now, picture.data_format, picture.width, picture.height, data)

    def fire(self) -> None:
        """Raises CameraLostError when the camera does not take the trigger."""
        try:
            self._node(SOFTWARE_TRIGGER).execute()
        except self._failures as error:
            raise CameraLostError(f"{SOFTWARE_TRIGGER} is refused: {error}") from error

    def disconnect(self) -> None:
        """Stops the stream and gives the camera back; the producer stays loaded."""
        acquirer, self._acquirer, self._nodes = self._acquirer, None, None
        if acquirer is None:
            return
        try:
            acquirer.stop()
        except self._failures as error:
            logger.warning("camera %s: acquisition not stopped: %s", self._config.name, error)
        with suppress(*self._failures):  # a camera that is gone cannot be closed, and needs not be
            acquirer.destroy()
        with _loading:
            self._producer.users -= 1

    def has(self, name: str) -> bool:
        """A feature that is there, implemented and available now."""
        if not self._nodes.has_node(name):
            return False
        mode = self._nodes.get_node(name).get_access_mode()
        return bool(mode not in (self._genapi.EAccessMode.NI, self._genapi.EAccessMode.NA))

    def options(self, name: str) -> tuple[str, ...]:
        """Raises CameraLostError where the camera has no such feature."""
        return tuple(getattr(self._node(name), "symbolics", ()))

    def write(self, name: str, value: Value) -> None:
        """Raises CameraLostError when the camera has no such feature, or refuses the value."""
        node = self._node(name)
        try:
            node.from_string(("true" if value else "false") if isinstance(value, bool) else str(value))
        except self._failures as error:
            raise CameraLostError(f"{name} cannot be set to {value}: {error}") from error

    def read(self, name: str) -> Value:
        """Raises CameraLostError when the camera has no such feature."""
        try:
            return str(self._node(name).to_string())
        except self._failures as error:
            raise CameraLostError(f"{name} cannot be read: {error}") from error

    def _node(self, name: str) -> Any:
        if not self._nodes.has_node(name):
            raise CameraLostError(f"the camera has no feature {name}")
        return getattr(self._nodes, name)

    def _index(self) -> int:
        infos = [
            info.property_dict for info in self._producer.harvester.device_info_list
        ]  # None for what is not supported
        known = [f"{info['id_']} ({info['model']}, serial {info['serial_number']})" for info in infos]
        wanted = self._config.source
        found = [
            place
            for place, info in enumerate(infos)
            if not wanted or wanted in (info["id_"], info["serial_number"], info["user_defined_name"])
        ]
        if len(found) != 1:
            what = f"no camera is called {wanted!r}" if wanted and not found else f"{len(found)} cameras fit `source`"
            raise CameraLostError(f"{what}; the producer knows {', '.join(known) or 'none'}")
        return found[0]
