"""No message is longer than the contract allows, whatever is in it."""

from hypothesis import given, settings

from inspector.contract.messages import U16_MAX, U32_MAX, Alarms, Detail, Message, Result
from inspector.contract.reports import RATE_MAX, REASONS, Counters, Stats
from tests.contract import strategies


@given(strategies.results())
def test_a_result_has_at_most_240_bytes(result: Result) -> None:
    assert len(result.to_json()) <= 240
    assert Result.from_json(result.to_json()) == result


@given(strategies.states() | strategies.heartbeats())
def test_a_state_and_a_heartbeat_have_at_most_240_bytes(message: Message) -> None:
    assert len(message.to_json()) <= 240


def test_stats_at_their_maxima_have_at_most_512_bytes() -> None:
    most = Counters(n=U32_MAX, ok=U32_MAX, ng=U32_MAX, und=U32_MAX, none=U32_MAX)
    stats = Stats(
        boot=U16_MAX, ts=U32_MAX, since=U32_MAX, minute=most, p50=U32_MAX, p99=U32_MAX, shift=most, rate=RATE_MAX
    )
    assert len(stats.to_json()) <= Stats.limit_bytes == 512
    assert Stats.from_json(stats.to_json()) == stats


@settings(deadline=None)
@given(strategies.details())
def test_a_fitted_detail_has_at_most_4096_bytes_and_counts_what_it_left_out(detail: Detail) -> None:
    fitted = detail.fitted()

    assert len(fitted.to_json()) <= 4096
    assert fitted.regions == detail.regions[: len(fitted.regions)]
    assert fitted.regions_left_out == len(detail.regions) - len(fitted.regions)
    assert Detail.from_json(fitted.to_json()) == fitted


@settings(deadline=None)
@given(strategies.alarms())
def test_fitted_alarms_have_at_most_2048_bytes_and_count_what_they_left_out(alarms: Alarms) -> None:
    fitted = alarms.fitted()

    assert len(fitted.to_json()) <= 2048
    assert fitted.alarms == alarms.alarms[: len(fitted.alarms)]
    assert fitted.more == len(alarms.alarms) - len(fitted.alarms)


def test_disp_knows_every_reason_of_the_gate() -> None:
    from inspector.contract.gate import Reason

    assert [reason.number for reason in Reason] == list(range(1, REASONS + 1))
