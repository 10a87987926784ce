"""Topics: one base, no other way to put one together."""

import pytest

from inspector.contract.topics import KINDS, Topics
from inspector.errors import ContractError


def test_topics_lie_below_the_base_with_the_version() -> None:
    topics = Topics("plant/line1")

    assert topics.result == "plant/line1/vis1/result"
    assert topics.cmd("trigger") == "plant/line1/vis1/cmd/trigger"
    assert topics.cmd_filter == "plant/line1/vis1/cmd/+"
    assert {topics.of(kind) for kind in KINDS} >= {topics.state, topics.hb, topics.recipe, topics.last, topics.detail}


def test_the_kind_of_a_topic_is_found_again() -> None:
    topics = Topics("plant/line1")

    assert topics.kind(topics.late) == "late"
    assert topics.command_name(topics.cmd("ping")) == "ping"
    assert topics.command_name(topics.ack) is None
    assert topics.kind("plant/line2/vis1/result") is None


@pytest.mark.parametrize("prefix", ["", "a//b", "a/+/b", "a/#", "$SYS", "x" * 60, "/".join("abcdefghij")])
def test_a_prefix_that_the_contract_does_not_allow_is_refused(prefix: str) -> None:
    with pytest.raises(ContractError, match=r"mqtt\.prefix"):
        Topics(prefix)


def test_an_unknown_topic_cannot_be_made() -> None:
    with pytest.raises(ContractError, match="no topic 'results'"):
        Topics("a").of("results")
