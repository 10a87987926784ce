"""Configuration: defaults, errors with their line, and where files go."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from inspector.commands import config as config_command
from inspector.config import CameraConfig, Config, load_config
from inspector.errors import ConfigError

REPOSITORY = Path(__file__).parents[1]


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def all_keys(section: BaseModel, prefix: str = "") -> list[tuple[str, object]]:
    keys: list[tuple[str, object]] = []
    for name in type(section).model_fields:
        value = getattr(section, name)
        value = value[0] if name == "cameras" else value
        keys += all_keys(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [(prefix + name, value)]
    return keys


def test_the_shipped_file_holds_every_key_with_its_default() -> None:
    shipped = (REPOSITORY / "config.yaml").read_text(encoding="utf-8")

    assert shipped == config_command.render_defaults(), "run: inspector config example > config.yaml"
    assert load_config(REPOSITORY / "config.yaml") == Config()


def test_an_empty_file_and_no_file_are_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "# nothing\n")) == load_config(None) == Config()


@pytest.mark.parametrize("key", [key for key, _ in all_keys(Config())])
def test_each_key_refuses_a_value_of_the_wrong_kind_with_its_line(tmp_path: Path, key: str) -> None:
    *sections, name = key.split(".")
    lines = ["# first line", *[f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]]
    if sections == ["cameras"]:
        lines.append(f"  - {name}: {{wrong: [1]}}")
    else:
        lines.append(f"{'  ' * len(sections)}{name}: {{wrong: [1]}}")
    path = write(tmp_path, "\n".join(lines) + "\n")

    with pytest.raises(ConfigError) as caught:
        load_config(path)

    assert f"{path}:{len(lines)}: " in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("mqtt:\n  prot: 1883\n", 2, "unknown key 'mqtt.prot'; known here: host, port"),
        ("mqtt:\n  port: 70000\n", 2, "less than or equal to 65535"),
        ("camera:\n  kind: folder\n", 1, "unknown key 'camera'; known here: data_dir, station"),
        ("cameras:\n  - kind: folder\n    nmae: a\n", 3, "unknown key 'cameras.0.nmae'"),
        ("cameras: []\n", 1, "at least 1 item"),
        ("mqtt:\n  prefix: a//b\n", 2, "non-empty levels"),
        ("mqtt:\n  port: 1\nmqtt:\n  port: 2\n", 3, "set twice (first in line 1)"),
        ("cameras:\n  - name: a\n  - name: a\n", 1, "camera names must be unique"),
        ("cameras:\n  - {name: a, trigger: mqtt}\n  - {name: b, trigger: mqtt}\n", 1, "but a, b have: each would send"),
    ],
)
def test_a_fault_names_file_line_and_what_is_known(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        load_config(path)

    assert f"{path}:{line}:" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["mqtt: [", "- 1\n", "\t- a: b:\n", "just words"])
def test_what_is_not_a_configuration_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(write(tmp_path, text))


def test_a_missing_or_binary_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "nothing.yaml")
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "picture.yaml")


def test_relative_paths_count_from_the_configuration_file(tmp_path: Path) -> None:
    text = "data_dir: files\ncameras:\n  - {kind: folder, source: parts}\nencoder: {name: tower.json}\n"
    text += "logging: {file: logs/line.log}\n"
    config = load_config(write(tmp_path, text))

    assert config.data_dir == tmp_path / "files"
    assert config.cameras[0].source == str(tmp_path / "parts")
    assert config.encoder.name == str(tmp_path / "tower.json")
    assert config.logging.file == tmp_path / "logs" / "line.log"


def test_the_environment_moves_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSPECTOR_DATA_DIR", str(tmp_path / "elsewhere"))
    config = load_config(write(tmp_path, "data_dir: files\n"))

    assert config.data_path == tmp_path / "elsewhere"
    assert config.database_url == f"sqlite:///{(tmp_path / 'elsewhere' / 'inspector.db').as_posix()}"


def test_every_key_says_what_it_means() -> None:
    for section in [Config, CameraConfig, *(type(value) for value in dict(Config()).values())]:
        if isinstance(section, type) and issubclass(section, BaseModel):
            for name, field in section.model_fields.items():
                nested = isinstance(field.default, BaseModel) or name == "cameras"
                assert nested or field.description, f"{section.__name__}.{name} has no description"


def test_check_lists_what_differs_and_the_exit_code_is_that_of_a_usage_error(tmp_path: Path) -> None:
    good = write(tmp_path, "mqtt:\n  port: 18830\n")
    answer = CliRunner().invoke(config_command.app, ["check", str(good)])
    assert answer.exit_code == 0
    assert "mqtt.port = 18830" in answer.output
    assert yaml.safe_load(config_command.render_defaults())["mqtt"]["port"] == 1883


@pytest.mark.parametrize(
    ("camera", "words"),
    [
        ("kind: opencv, trigger: hardware", "trigger: hardware needs kind genicam or harvesters"),
        ("kind: opencv, exposure_us: 100", "exposure_us, gain, pixel_format and features need kind genicam"),
        ("kind: folder, gain: 0", "exposure_us, gain, pixel_format and features need kind genicam"),
        ("kind: video, watch: true", "watch needs kind folder"),
        ("kind: folder, watch: true, loop: true", "watch and loop exclude each other"),
        ("kind: folder, watch: true, trigger: mqtt", "watch needs trigger: free"),
        ("kind: folder, done_folder: done", "done_folder needs watch: true"),
        ("kind: genicam, producer: a.cti", "producer (a .cti file) needs kind harvesters"),
        ("kind: harvesters", "kind harvesters needs producer, a .cti file"),
        ("kind: folder, faults: {lost: 0.1}", "faults need kind simulated"),
        ("faults: {lost: 0.6, bad: 0.6}", "must not exceed 1, but add up to 1.2"),
        ("faults: {explodes: 0.1}", "faults"),
    ],
)
def test_keys_of_a_camera_that_do_not_fit_together_are_refused_with_their_line(
    camera: str, words: str, tmp_path: Path
) -> None:
    path = write(tmp_path, f"cameras:\n  - {{name: cam, {camera}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert words in str(caught.value)
    assert f"{path}:2: " in str(caught.value)


def test_the_files_of_a_camera_count_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    text = """cameras:
  - {name: a, kind: folder, source: in, watch: true, done_folder: done}
  - {name: b, kind: harvesters, producer: vendor.cti}
  - {name: c, kind: genicam, source: 192.168.1.10}
"""
    folder, producer, address = load_config(write(tmp_path, text)).cameras
    assert (folder.source, folder.done_folder) == (str(tmp_path / "in"), str(tmp_path / "done"))
    assert producer.producer == tmp_path / "vendor.cti"
    assert address.source == "192.168.1.10"


@pytest.mark.parametrize("text", ["[14:00]", '["24:00"]', '["6:00"]', "[]"])
def test_shifts_are_times_in_quotes(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r":2: station\.shifts"):
        load_config(write(tmp_path, f"station:\n  shifts: {text}\n"))
    assert load_config(write(tmp_path, 'station:\n  shifts: ["05:30", "17:30"]\n')).station.shifts == ["05:30", "17:30"]


def test_a_time_without_quotes_is_told_what_yaml_makes_of_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='must be a time like "06:00", in quotes'):
        load_config(write(tmp_path, "station:\n  shifts: [14:00]\n"))
