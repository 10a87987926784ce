"""Fixtures that more than one package of tests uses.

The browser is here so that all of them share one: Playwright refuses a second driver in the same process.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from inspector.contract.session import Session
from tests.asyncapi_judge import JUDGE, Emission
from tests.browser import chromium

__all__ = ["chromium"]


@pytest.fixture(autouse=True)
def published_messages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Emission]]:
    """Whatever a link of this process publishes is judged by the AsyncAPI document when the test is over.

    Tests that send anything but messages of the contract, because they are about the link, say `any_payload`.
    """
    emitted: list[Emission] = []
    publish = Session.publish

    def record(self: Session, topic: str, payload: bytes, **options: Any) -> Any:
        emitted.append(Emission(topic, payload, options["qos"], options["retain"]))
        return publish(self, topic, payload, **options)

    monkeypatch.setattr(Session, "publish", record)
    yield emitted
    if request.node.get_closest_marker("any_payload") is None:
        faults = sorted({fault for emission in emitted for fault in JUDGE.faults(emission)})
        assert not faults, "messages that are not in docs/asyncapi.yaml:\n" + "\n".join(faults)
