"""The AsyncAPI document: kept up to date, valid, and a judge that finds wrong messages."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from jsonschema import Draft7Validator
from typer.testing import CliRunner

from inspector.cli import app
from inspector.config import MqttConfig
from inspector.contract.asyncapi import build_document, render_json, render_yaml
from inspector.contract.binary import pack_result
from inspector.contract.channels import CHANNELS, Channel, command_channels, example_bytes
from inspector.contract.link import BrokerLink
from inspector.contract.messages import COMMANDS, CommandMessage, Message, Result, State
from inspector.contract.session import Identity, Session
from inspector.contract.topics import KINDS
from inspector.errors import ContractError
from tests.asyncapi_judge import DOCUMENT, Emission, Judge
from tests.brokers import TestBroker, Witness, wait_until
from tests.contract import strategies

JUDGE = Judge()
ALL = [*CHANNELS, *command_channels()]
RESULT = (
    b'{"v":1,"boot":7,"seq":1042,"trg":88123,"res":1,"err":0,"flg":0,'
    b'"rcp":3,"rev":2,"scr":612,"roi":0,"lat":38,"ts":1,"ms":1,"part":"A"}'
)
STATE = State(on=1, st=7, mode=0, boot=1, rcp=1, rev=1, err=0, win=1, hbp=1, ts=1).to_json()


def test_the_kept_document_is_what_the_models_give_now() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render_yaml(), (
        "run: inspector contract asyncapi --out docs/asyncapi.yaml"
    )


def test_both_forms_say_the_same() -> None:
    assert yaml.safe_load(render_yaml()) == json.loads(render_json()) == build_document()


def test_every_topic_and_every_command_has_a_channel() -> None:
    assert {channel.kind for channel in ALL} == {*KINDS, *(f"cmd/{name}" for name in COMMANDS)}
    assert len(ALL) == len(build_document()["channels"]) == len(build_document()["operations"])


def test_every_key_has_a_meaning_and_every_station_s_key_is_required() -> None:
    for name, schema in build_document()["components"]["schemas"].items():
        for key, body in schema.get("properties", {}).items():
            assert body["description"], f"{name}.{key}"
    schemas = build_document()["components"]["schemas"]
    assert schemas["Result"]["required"] == list(Result.model_fields)
    assert schemas["SelectRecipe"]["required"] == ["v", "cid", "rcp"]
    assert schemas["Result"]["properties"]["part"]["maxLength"] == 32
    assert schemas["Result"]["properties"]["scr"]["minimum"] == -(2**31)


@pytest.mark.parametrize("channel", ALL, ids=[channel.kind for channel in ALL])
def test_each_example_is_a_message_of_its_channel(channel: Channel) -> None:
    emission = Emission(f"plant/line1/vis1/{channel.kind}", example_bytes(channel), channel.qos, channel.retain)

    assert JUDGE.faults(emission) == []


@settings(max_examples=200, deadline=None)
@given(result=strategies.results(), state=strategies.states(), heartbeat=strategies.heartbeats())
def test_whatever_the_models_allow_the_document_allows(result: Result, state: State, heartbeat: Message) -> None:
    for kind, message in (
        ("result", result),
        ("late", result.as_late(result.ts + 3.0)),
        ("state", state),
        ("hb", heartbeat),
    ):
        assert JUDGE.faults(Emission(f"a/vis1/{kind}", message.to_json())) == []


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("result", b"fresh"), ("result", RESULT.replace(b'"res":1', b'"res":4')), ("result", RESULT + b" "),
        ("result", RESULT.replace(b'"err":0', b'"err":501')), ("result", RESULT.replace(b'"v":1', b'"v":2')),
        ("result", RESULT.replace(b',"lat":38', b"")), ("result", RESULT.replace(b'"part"', b'"x":1,"part"')),
        ("result", RESULT.replace(b'"part":"A"', b'"part":"' + b"A" * 33 + b'"')), ("result", RESULT.replace(b"A", b"\xc3")),
        ("result", RESULT.replace(b'"res":1,"err":0', b'"err":0,"res":1')), ("result", b" " * 241), ("resultb", b"x" * 63),
        ("result", RESULT.replace(b'"seq":1042', b'"seq":0')), ("results", RESULT), ("cmd/explode", b'{"v":1,"cid":1}'),
        ("cmd/select_recipe", b'{"v":1,"cid":1}'), ("cmd/ping", b'{"cid":1}'), ("detail", b"{}"), ("alarm", b" " * 2049),
        ("state", STATE.replace(b'"st":7', b'"st":0')),
    ],
)  # fmt: skip
def test_a_wrong_message_is_found(kind: str, payload: bytes) -> None:
    assert JUDGE.faults(Emission("plant/line1/vis1/result", RESULT, 1, False)) == []
    assert JUDGE.faults(Emission(f"plant/line1/vis1/{kind}", payload))


@pytest.mark.parametrize(("qos", "retain"), [(0, False), (1, True)])
def test_a_verdict_that_is_retained_or_not_acknowledged_is_found(qos: int, retain: bool) -> None:
    assert JUDGE.faults(Emission("a/vis1/result", RESULT, qos, retain))


@pytest.mark.any_payload
def test_what_a_link_publishes_reaches_the_judge(
    published_messages: list[Emission], monkeypatch: pytest.MonkeyPatch
) -> None:
    link = BrokerLink(MqttConfig(), Identity("nobody"))
    session: Session = link._new_session()
    monkeypatch.setattr(link, "_session", session)
    link.publish("a/vis1/result", b"fresh", qos=1)

    assert published_messages == [Emission("a/vis1/result", b"fresh", 1, False)]
    assert JUDGE.faults(published_messages[0])


@pytest.mark.any_payload
def test_a_recorder_on_a_broker_finds_what_others_than_the_tests_sent_wrongly(broker: TestBroker) -> None:
    recorder = Witness(broker.port, client_id="recorder")
    link = BrokerLink(MqttConfig(port=broker.port), Identity("station"))
    link.start()
    wait_until(lambda: link.is_connected)
    recorder.publish("a/vis1/result", b"by the test")
    link.publish("a/vis1/result", RESULT, qos=1)
    wait_until(lambda: len(recorder.messages) == 2)
    assert recorder.faults() == []

    link.publish("a/vis1/result", b"by the station", qos=1)
    wait_until(lambda: len(recorder.messages) == 3)
    link.stop()
    recorder.close()

    assert len(recorder.faults()) == 1
    assert "by the station" in recorder.faults()[0]


@pytest.fixture(scope="session")
def node_packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Installs a package of npm into a folder of its own; skips where node or the registry is not there."""
    npm = shutil.which("npm")

    def install(package: str) -> Path:
        if npm is None:
            pytest.skip("npm is not installed; the public AsyncAPI parser and schema cannot be had")
        folder = tmp_path_factory.mktemp("node")
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), package]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm cannot install {package}: {done.stderr.strip()[-300:]}")
        return folder / "node_modules"

    return install


def test_the_document_fits_the_official_schema(node_packages: Callable[[str], Path]) -> None:
    folder = node_packages("@asyncapi/specs@6.11.1")
    schema: dict[str, Any] = json.loads((folder / "@asyncapi/specs/schemas/3.0.0-without-$id.json").read_text())
    validator = Draft7Validator(schema)

    assert [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(build_document())] == []
    assert list(validator.iter_errors(build_document() | {"channels": {"result": {"adress": 1}}}))


PARSE = """
const { Parser } = require('@asyncapi/parser');
new Parser().parse(require('fs').readFileSync(process.argv[2], 'utf8')).then(({ document, diagnostics }) => {
  const errors = diagnostics.filter((one) => one.severity === 0).map((one) => one.message);
  console.log(JSON.stringify({ channels: document ? document.channels().all().length : 0, errors }));
});
"""


@pytest.mark.slow
def test_the_public_parser_takes_the_document_and_refuses_a_broken_one(
    node_packages: Callable[[str], Path], tmp_path: Path
) -> None:
    node = shutil.which("node")
    folder = node_packages("@asyncapi/parser@3.6.3").parent
    (folder / "parse.cjs").write_text(PARSE)

    def parse(text: str) -> dict[str, Any]:
        (tmp_path / "document.yaml").write_text(text, encoding="utf-8")
        command = [str(node), "parse.cjs", str(tmp_path / "document.yaml")]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    assert parse(render_yaml()) == {"channels": len(ALL), "errors": []}
    assert parse(render_yaml().replace("action: send", "action: shout", 1))["errors"]


@pytest.mark.parametrize("name", ["asyncapi.json", "asyncapi.yaml"])
def test_the_command_writes_the_document_in_the_form_of_the_ending(tmp_path: Path, name: str) -> None:
    done = CliRunner().invoke(app, ["contract", "asyncapi", "--out", str(tmp_path / name)])

    assert done.exit_code == 0
    assert yaml.safe_load((tmp_path / name).read_text(encoding="utf-8")) == build_document()
    assert CliRunner().invoke(app, ["contract", "asyncapi"]).output == render_yaml()


@pytest.mark.parametrize("name", ["asyncapi.txt", "missing/asyncapi.json"])
def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path, name: str) -> None:
    assert CliRunner().invoke(app, ["contract", "asyncapi", "--out", str(tmp_path / name)]).exit_code != 0


def test_commands_by_hand_may_have_blanks() -> None:
    assert JUDGE.faults(Emission("a/vis1/cmd/ping", b'{ "cid": 4, "v": 1 }')) == []
    assert issubclass(COMMANDS["ping"], CommandMessage)


def test_the_binary_example_is_the_text_example() -> None:
    message = build_document()["components"]["messages"]["Resultb"]
    text = build_document()["components"]["messages"]["Result"]["examples"][0]["payload"]

    assert bytes.fromhex(message["x-example-hex"]) == pack_result(Result(**text), "little")
    with pytest.raises(ContractError):
        pack_result(Result(**{**text, "part": "x" * 25}), "little")
