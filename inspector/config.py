"""The configuration: one model, a file with only what differs from the defaults, errors with line numbers.

Light by design: importing it never imports torch, a camera or a database. `INSPECTOR_DATA_DIR` moves every file that the
program writes; relative paths in a configuration file count from the folder of that file.
"""

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import platformdirs
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
    field_validator,
    model_validator,
)

from inspector.errors import ConfigError
from inspector.yaml_file import Document, line_of, read_document, refuse_repeated_keys

DATA_DIR_VARIABLE = "INSPECTOR_DATA_DIR"

SparkplugId = Annotated[str, Field(pattern=r"^[^+/#\x00-\x1f\x7f]{1,64}$")]
"""An identifier of Sparkplug: a part of a topic, so none of + / # in it (tck-id-topic-structure-namespace-valid-…)."""


def _quoted(at: Any) -> Any:
    if isinstance(at, int):
        raise ValueError('must be a time like "06:00", in quotes: YAML reads 14:00 without them as a number')
    return at


ShiftTime = Annotated[str, BeforeValidator(_quoted), Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
"""When a shift begins: a time of the machine's local clock."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values are read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StationConfig(Section):
    """Who this worker is."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = Field(
        "station1", description="unique name of the station; also the MQTT client id (fixed, never random)"
    )
    shifts: Annotated[list[ShiftTime], Field(min_length=1, max_length=24)] = Field(
        ["06:00", "14:00", "22:00"],
        description="when shifts begin, by the machine's local clock, for the counters on `stats`; in quotes",
    )


class EncoderConfig(Section):
    """The frozen image tower."""

    name: str = Field(
        "embedded",
        description="'embedded', any open_clip model name, or the path of an open_clip model configuration (.json)",
    )
    pretrained: str | None = Field(
        None, description="open_clip tag, or a checkpoint file (.safetensors, or .pt read as weights only)"
    )
    image_size: Annotated[int, Field(ge=32, le=2048)] | None = Field(
        None, description="side of the model's input in px; default: that of the model"
    )
    taps: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, description="blocks or stages that are tapped, 1-based; default: quarters, or those of the model"
    )
    adapters: str | None = Field(
        None, description="adapters of the adapted mode (.safetensors of `inspector adapt`); default: training-free"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="number format; auto: fp16 on a GPU, bf16 on a CPU that multiplies it, else fp32"
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads of the tower; 0 = chosen by torch")


FaultKind = Literal["missed", "timeout", "lost", "bad", "frozen", "black", "hang"]
GENICAM_KINDS = ("genicam", "harvesters")
MIN_CROP_PX = 16


class CameraConfig(Section):
    """One source of frames."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")] = Field("camera1", description="unique name")
    kind: Literal["simulated", "folder", "video", "opencv", "genicam", "harvesters"] = Field(
        "simulated",
        description="simulated line, folder of pictures, video file, USB / RTSP by OpenCV, "
        "GenICam by Aravis, or GenICam by Harvesters",
    )
    source: str = Field(
        "",
        description="folder, file, USB index (0), rtsp://…, or the GenICam camera's IP address, id or serial number",
    )
    isolate: bool = Field(False, description="run the camera in a process of its own, ended when it hangs")
    loop: bool = Field(False, description="folder and video: start again at the end")
    watch: bool = Field(False, description="folder: hot folder, each new picture is a part")
    done_folder: str | None = Field(
        None, description="hot folder: inspected pictures are moved there; null: they stay, and only new ones count"
    )
    settle_s: Annotated[float, Field(ge=0.05, le=60)] = Field(
        0.2, description="hot folder: a file that has not changed for so long is not being written any more"
    )
    trigger: Literal["free", "mqtt", "hardware"] = Field(
        "free",
        description="free: frames come by period_s or by the camera; mqtt: one frame per cmd/trigger; "
        "hardware: GenICam, by trigger_source",
    )
    trigger_source: str = Field("Line1", description="GenICam: input that triggers when trigger is hardware")
    period_s: Annotated[float, Field(gt=0, le=3600)] = Field(0.5, description="seconds between two frames")
    timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(
        2.0,
        description="no frame for so long after a trigger: camera lost; free running after 3 periods (1 s at least)",
    )
    exposure_us: Annotated[float, Field(gt=0)] | None = Field(
        None, description="GenICam: exposure time in µs; null: as the camera has it"
    )
    gain: float | None = Field(None, description="GenICam: gain in the camera's unit (mostly dB); null: as it is")
    pixel_format: str | None = Field(None, description="GenICam: Mono8, BayerRG8, RGB8 …; null: as the camera has it")
    features: dict[str, str | int | float | bool] = Field(
        {}, description="GenICam: further features by name, written in this order and read back"
    )
    producer: Path | None = Field(None, description="Harvesters: the vendor's GenTL producer, a .cti file")
    crop: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt, NonNegativeInt] | None = Field(
        None, description="[x, y, width, height] in px of the camera's picture that is inspected; null: all of it"
    )
    flip: Literal["none", "horizontal", "vertical"] = Field("none", description="mirrors the crop that way")
    rotate_deg: Literal[0, 90, 180, 270] = Field(0, description="turns the crop clockwise, after the flip")
    seed: int = Field(0, description="simulated: seed of the drawn parts")
    defect_rate: Annotated[float, Field(ge=0, le=1)] = Field(0.15, description="simulated: share of bad parts")
    parts_per_product: Annotated[int, Field(ge=0)] = Field(
        0, description="simulated: parts until the next kind of part comes by; 0 = never"
    )
    faults: dict[FaultKind, Annotated[float, Field(ge=0, le=1)]] = Field(
        {}, description="simulated: share of parts with missed, timeout, lost, bad, frozen, black or hang"
    )

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> "CameraConfig":
        genicam = self.kind in GENICAM_KINDS
        device_settings = (self.exposure_us, self.gain, self.pixel_format, self.features or None)
        fault_share = sum(self.faults.values())
        wrong = {
            "trigger: hardware needs kind genicam or harvesters": self.trigger == "hardware" and not genicam,
            "exposure_us, gain, pixel_format and features need kind genicam or harvesters": not genicam
            and any(setting is not None for setting in device_settings),
            "watch needs kind folder": self.watch and self.kind != "folder",
            "watch and loop exclude each other": self.watch and self.loop,
            "watch needs trigger: free, for each new file is a part": self.watch and self.trigger != "free",
            "done_folder needs watch: true": self.done_folder is not None and not self.watch,
            "producer (a .cti file) needs kind harvesters": self.producer is not None and self.kind != "harvesters",
            "kind harvesters needs producer, a .cti file": self.producer is None and self.kind == "harvesters",
            f"crop needs a width and a height of at least {MIN_CROP_PX} px": self.crop is not None
            and min(self.crop[2:]) < MIN_CROP_PX,
            "faults need kind simulated": bool(self.faults) and self.kind != "simulated",
            f"the shares of faults must not exceed 1, but add up to {fault_share:g}": fault_share > 1,
        }
        for sentence, applies in wrong.items():
            if applies:
                raise ValueError(f"camera {self.name}: {sentence}")
        return self


class BatchingConfig(Section):
    """From the camera to the detector."""

    queue_size: Annotated[int, Field(ge=1, le=10_000)] = Field(32, description="frames that may wait")
    max_batch: Annotated[int, Field(ge=1, le=1024)] = Field(8, description="frames in one batch")
    max_age_ms: Annotated[float, Field(ge=0)] = Field(20.0, description="the oldest frame waits at most this long")
    deadline_ms: Annotated[float, Field(gt=0)] = Field(
        1000.0, description="budget of a part from its trigger; later is no verdict (err 501)"
    )


class BrokerConfig(Section):
    """Where a broker is and how to log in to it; `section` is where these keys stand in the file."""

    section: ClassVar[str]

    host: str = Field("127.0.0.1", description="broker")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(1883, description="port of the broker")
    username: str | None = Field(None, description="user name")
    password_file: Path | None = Field(None, description="file that holds the password and nothing else")
    tls: bool = Field(False, description="TLS")
    ca_file: Path | None = Field(None, description="certificate authority of the broker; default: the system's")
    cert_file: Path | None = Field(None, description="client certificate")
    key_file: Path | None = Field(None, description="key of the client certificate")
    keepalive_s: Annotated[int, Field(ge=1, le=60)] = Field(5, description="MQTT keep-alive")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted: switched on, or implied by a certificate."""
        return self.tls or self.ca_file is not None or self.cert_file is not None

    @property
    def unacknowledged_ms(self) -> int:
        """A connection whose bytes stay unacknowledged for so long is cut."""
        return self.keepalive_s * 1000


class MqttConfig(BrokerConfig):
    """The broker and the contract's timings."""

    section = "mqtt"

    prefix: str = Field("factory/line1", description="before /vis1; at most 9 levels and 59 characters")
    window_ms: Annotated[int, Field(ge=50, le=65_000)] = Field(
        2000, description="win: an older verdict is never sent on `result`"
    )
    heartbeat_ms: Annotated[int, Field(ge=100, le=60_000)] = Field(1000, description="hbp: period of the heartbeat")
    resultb: Literal["little", "big"] | None = Field(
        None,
        description="verdicts also in 64 bytes on `resultb`: little or big (byte order; ids over 24 characters are refused)",
    )

    receipt_s: Annotated[float, Field(ge=0, le=3600)] = Field(
        10.0,
        description="a PLC that sends receipts on `disp` must confirm a reject within so long (alarm 703); 0 = never",
    )

    @field_validator("prefix")
    @classmethod
    def _prefix_fits_the_contract(cls, prefix: str) -> str:
        levels = prefix.split("/")
        if len(levels) > 9 or len(prefix) > 59 or any(not level or set(level) & set("+#$\0") for level in levels):
            raise ValueError(f"must have at most 9 non-empty levels and 59 characters without + # $, but is {prefix!r}")
        return prefix

    @property
    def unacknowledged_ms(self) -> int:
        """A verdict must not arrive later than its window allows."""
        return self.window_ms


class SparkplugConfig(BrokerConfig):
    """Sparkplug B for SCADA, over a connection of its own."""

    section = "sparkplug"

    enabled: bool = Field(False, description="whether the station is a Sparkplug edge node, too")
    group_id: SparkplugId = Field("inspection", description="Sparkplug group")
    edge_node_id: SparkplugId | None = Field(
        None, description="edge node, unique in the group; default: the station's name"
    )
    device_id: SparkplugId = Field("vision", description="device below the edge node: the inspection itself")
    primary_host_id: SparkplugId | None = Field(
        None, description="primary host application that is waited for; default: none"
    )
    backlog: Annotated[int, Field(ge=1, le=100_000)] = Field(
        5000, description="verdicts kept while nobody takes them; the oldest are dropped and counted"
    )


class ChallengeConfig(Section):
    """Known parts that prove that the station still finds what it must."""

    every_h: Annotated[float, Field(ge=0, le=10_000)] = Field(
        0.0, description="hours after which a challenge with parts must have passed, else alarm 701; 0 = none awaited"
    )
    overdue_holds: bool = Field(
        False, description="an overdue challenge stops the station from accepting parts, as a failed one always does"
    )
    pictures_every_min: Annotated[float, Field(ge=0, le=100_000)] = Field(
        0.0, description="minutes between challenges with the kept pictures of set 1, run by itself; 0 = never"
    )
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = Field(
        600.0, description="a challenge that takes longer is ended; parts that were not seen have failed"
    )


class DatabaseConfig(Section):
    """Where verdicts, products and history lie."""

    url: str | None = Field(
        None, description="SQLAlchemy URL (sqlite:///…, postgresql+psycopg://…); default: SQLite in data_dir"
    )
    backup_every_h: Annotated[float, Field(ge=0, le=8760)] = Field(
        6.0, description="hours between two backups of an SQLite database; 0 = none"
    )
    backups_kept: Annotated[int, Field(ge=1, le=1000)] = Field(5, description="backups kept; the oldest go first")
    keep_days: Annotated[float, Field(ge=0)] = Field(0.0, description="days that verdict rows are kept; 0 = for ever")


class CentralConfig(Section):
    """The plant's database, which the verdicts of all stations are copied to."""

    url: str | None = Field(
        None, description="SQLAlchemy URL (postgresql+psycopg://user@host/plant); null: nothing is copied"
    )
    password_file: Path | None = Field(None, description="file that holds the password of url and nothing else")
    batch: Annotated[int, Field(ge=1, le=5000)] = Field(200, description="verdicts copied in one transaction")
    alarm_after_min: Annotated[float, Field(ge=0.1, le=100_000)] = Field(
        15.0, description="minutes that the copy may be behind before alarm 804 is up"
    )


class ImagesConfig(Section):
    """Evidence pictures, written after the verdict."""

    save: Literal["all", "not_ok", "none"] = Field("all", description="which parts keep picture and heat map")
    max_side_px: Annotated[int, Field(ge=64, le=8192)] = Field(1024, description="longer pictures are made smaller")
    max_saved: Annotated[int, Field(ge=1)] = Field(20_000, description="pictures kept; the oldest OK go first")
    ok_sample: Annotated[int, Field(ge=1)] = Field(
        1, description="of OK parts older than a day every n-th keeps its picture (near the threshold: all); 1 = all"
    )
    ok_days: Annotated[float, Field(ge=0)] = Field(30.0, description="days that pictures of OK parts are kept; 0 = any")
    evidence_days: Annotated[float, Field(ge=0)] = Field(
        365.0, description="days that all others are kept, and OK within 10 % of the threshold; 0 = any"
    )
    min_free_mb: Annotated[int, Field(ge=0)] = Field(
        1024, description="free space on the disk, in MiB, below which pictures go (OK first) and alarm 802 is up"
    )


class DiskConfig(Section):
    """What keeps a full disk from stopping the line."""

    ballast_mb: Annotated[int, Field(ge=1, le=4096)] = Field(
        64, description="MiB held in reserve by a file that is given up when the disk is full"
    )


class SupervisorConfig(Section):
    """What keeps the worker running."""

    hung_s: Annotated[float, Field(ge=1, le=600)] = Field(
        15.0, description="a worker whose inspection loop has not come by for so long is killed and started again"
    )
    start_limit_s: Annotated[float, Field(ge=5, le=3600)] = Field(
        180.0, description="a worker that is not ready after so long is killed and started again"
    )


class DashboardConfig(Section):
    """The operators' pages."""

    host: str = Field("127.0.0.1", description="address to bind to; anything else needs users (`inspector user add`)")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(8501, description="port")
    users_file: Path | None = Field(
        None, description="who may log in, written by `inspector user`; default: users.yaml in data_dir"
    )
    session_h: Annotated[float, Field(gt=0, le=8760)] = Field(
        12.0, description="hours without a click after which a login ends"
    )


class TelemetryConfig(Section):
    """Numbers for Prometheus."""

    host: str = Field("127.0.0.1", description="address to bind to; anything else opens it to the network")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="port of /metrics, for example 9464; one per worker; 0 = off"
    )


class LoggingConfig(Section):
    """What goes to standard error, and to a file if one is named."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="lowest level that is shown")
    file: Path | None = Field(None, description="log file besides; the supervisor's has -supervisor in its name")
    max_mb: Annotated[float, Field(gt=0, le=10_000)] = Field(10.0, description="MiB at which a new file is begun")
    backups: Annotated[int, Field(ge=1, le=1000)] = Field(5, description="old log files kept")


class Config(Section):
    """Everything that can be set; every key has a default, so an empty file is a working line."""

    data_dir: Path | None = Field(
        None, description="folder for all files that the program writes; INSPECTOR_DATA_DIR wins; default: the user's"
    )
    station: StationConfig = StationConfig()
    encoder: EncoderConfig = EncoderConfig()
    cameras: list[CameraConfig] = Field([CameraConfig()], min_length=1, max_length=16)
    batching: BatchingConfig = BatchingConfig()
    mqtt: MqttConfig = MqttConfig()
    sparkplug: SparkplugConfig = SparkplugConfig()
    challenge: ChallengeConfig = ChallengeConfig()
    database: DatabaseConfig = DatabaseConfig()
    central: CentralConfig = CentralConfig()
    images: ImagesConfig = ImagesConfig()
    disk: DiskConfig = DiskConfig()
    supervisor: SupervisorConfig = SupervisorConfig()
    dashboard: DashboardConfig = DashboardConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    logging: LoggingConfig = LoggingConfig()

    @model_validator(mode="after")
    def _camera_names_are_unique(self) -> "Config":
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ValueError(f"camera names must be unique, but are {names}")
        return self

    @model_validator(mode="after")
    def _one_camera_answers_the_plc(self) -> "Config":
        triggered = [camera.name for camera in self.cameras if camera.trigger == "mqtt"]
        if len(triggered) > 1:
            raise ValueError(
                f"one camera of a station may have trigger: mqtt, but {', '.join(triggered)} have: each would send a verdict "
                "of its own on one part, and the PLC goes by the first; give each its own station (station.name, mqtt.prefix)"
            )
        return self

    @property
    def data_path(self) -> Path:
        """Folder of everything that the program writes (made by whoever writes first)."""
        override = os.environ.get(DATA_DIR_VARIABLE)
        if override:
            return Path(override).expanduser().absolute()
        if self.data_dir is not None:
            return self.data_dir.expanduser().absolute()
        return Path(platformdirs.user_data_dir("inspector"))

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL; SQLite in the data folder unless one is configured."""
        return self.database.url or f"sqlite:///{(self.data_path / 'inspector.db').as_posix()}"

    @property
    def users_path(self) -> Path:
        """The file of who may log in to the pages; it need not exist."""
        return self.dashboard.users_file or self.data_path / "users.yaml"


def load_config(source: Path | Document | None) -> Config:
    """Read a configuration file, or take one that was read; None gives the defaults.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or a key or value is wrong; each fault with its line.
    """
    if source is None:
        return Config()
    document = read_document(source) if isinstance(source, Path) else source
    path, values = document.path, document.values
    if values is None:
        return Config()
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections like 'mqtt:', but the file holds a {type(values).__name__}")
    refuse_repeated_keys(path, document.node)
    try:
        return resolve_paths(Config.model_validate(values), path.absolute().parent)
    except ValidationError as error:
        raise ConfigError(_explain(path, document.node, error)) from error


def resolve_paths(config: Config, folder: Path) -> Config:
    """Make relative paths of a file count from that file's folder."""

    def absolute(value: Path | None) -> Path | None:
        return None if value is None else folder / value.expanduser()

    encoder = config.encoder
    if encoder.name.endswith(".json"):
        encoder = encoder.model_copy(update={"name": str(folder / encoder.name)})
    if encoder.pretrained and encoder.pretrained.endswith((".safetensors", ".pt")):
        encoder = encoder.model_copy(update={"pretrained": str(folder / encoder.pretrained)})
    cameras = [_resolve_camera(camera, folder) for camera in config.cameras]
    files = ("password_file", "ca_file", "cert_file", "key_file")
    brokers = {
        broker.section: broker.model_copy(update={name: absolute(getattr(broker, name)) for name in files})
        for broker in (config.mqtt, config.sparkplug)
    }
    logging = config.logging.model_copy(update={"file": absolute(config.logging.file)})
    central = config.central.model_copy(update={"password_file": absolute(config.central.password_file)})
    dashboard = config.dashboard.model_copy(update={"users_file": absolute(config.dashboard.users_file)})
    moved = {"data_dir": absolute(config.data_dir), "encoder": encoder, "cameras": cameras, "logging": logging}
    return config.model_copy(update=moved | brokers | {"central": central, "dashboard": dashboard})


def _resolve_camera(camera: CameraConfig, folder: Path) -> CameraConfig:
    found: dict[str, str | Path] = {}
    if camera.kind in ("folder", "video") and camera.source:
        found["source"] = str(folder / camera.source)
    if camera.done_folder is not None:
        found["done_folder"] = str(folder / camera.done_folder)
    if camera.producer is not None:
        found["producer"] = folder / camera.producer.expanduser()
    return camera.model_copy(update=found)


def _explain(path: Path, node: yaml.Node | None, error: ValidationError) -> str:
    """One line per fault: file, line, key, what is wrong, and the known keys where one is unknown."""
    lines = []
    for fault in error.errors():
        keys = [part for part in fault["loc"] if not (isinstance(part, str) and part.startswith("constrained"))]
        where = f"{path}:{line_of(node, keys)}"
        name = ".".join(str(key) for key in keys) or "file"
        if fault["type"] == "extra_forbidden":
            known = ", ".join(_known_keys(keys[:-1]))
            lines.append(f"{where}: unknown key {name!r}; known here: {known}")
        else:
            got = "" if isinstance(fault["input"], dict | list) else f", but got {fault['input']!r}"
            lines.append(f"{where}: {name}: {fault['msg'].removeprefix('Value error, ')}{got}")
    return "\n".join(lines)


def _known_keys(keys: list[Any]) -> list[str]:
    """Names that are allowed in the section that `keys` lead to."""
    section: type[BaseModel] = Config
    for key in keys:
        if isinstance(key, int):
            continue
        annotation = section.model_fields[str(key)].annotation
        section = CameraConfig if key == "cameras" else annotation  # type: ignore[assignment]
    return list(section.model_fields)
