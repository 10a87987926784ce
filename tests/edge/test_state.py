"""What the station says of itself, and by what a part may be judged."""

import pytest

from edge.state import Station
from inspector.contract.codes import ErrorCode, StationMode, StationState
from tests.edge.detector_stub import active


@pytest.fixture
def station() -> Station:
    return Station(boot=7, mode=StationMode.PRODUCTION, window_ms=2000, heartbeat_ms=1000)


def _said(station: Station) -> tuple[int, int, int]:
    message = station.state_message(0)
    return message.st, message.rcp, message.err


def test_before_it_is_set_up_a_station_refuses_parts(station: Station) -> None:
    assert station.snapshot.refusal is ErrorCode.ABORTED
    assert _said(station) == (StationState.PREOPERATIONAL, 0, 0)


def test_without_a_recipe_it_says_why(station: Station) -> None:
    station.set_up(None)
    assert station.snapshot.refusal is ErrorCode.NO_RECIPE
    assert _said(station) == (StationState.INITIALIZED, 0, 0)
    station.set_up(None, ErrorCode.FINGERPRINT_MISMATCH)
    assert station.snapshot.refusal is ErrorCode.FINGERPRINT_MISMATCH
    assert _said(station) == (StationState.INITIALIZED, 0, ErrorCode.FINGERPRINT_MISMATCH)


def test_during_a_product_change_no_part_is_scored_and_the_old_recipe_is_still_named(station: Station) -> None:
    station.set_up(active())
    station.prepare()
    assert station.snapshot.refusal is ErrorCode.ABORTED
    assert _said(station) == (StationState.PREPARING, 3, 0)
    station.activate(active(rcp=4))
    assert station.snapshot.refusal is ErrorCode.NONE
    assert _said(station) == (StationState.CONTINUOUS_EXECUTION, 4, 0)


def test_a_failed_product_change_goes_back_to_the_old_product(station: Station) -> None:
    before = active()
    station.set_up(before)
    station.prepare()
    station.abandon()
    assert station.snapshot.active is before
    assert station.snapshot.refusal is ErrorCode.NONE


def test_each_change_counts_the_epoch_on_so_that_no_part_outlives_it(station: Station) -> None:
    epochs = [station.snapshot.epoch]
    for change in (lambda: station.set_up(active()), station.prepare, station.abandon, lambda: station.run(False)):
        change()
        epochs.append(station.snapshot.epoch)
    assert epochs == sorted(set(epochs))


def test_a_part_hears_of_the_fault_during_which_it_was_seen_also_when_the_fault_has_just_passed(
    station: Station,
) -> None:
    station.set_up(active())
    before = station.snapshot.epoch
    assert station.snapshot.refusal_of(before) is ErrorCode.NONE
    station.fail(ErrorCode.STORAGE)
    during = station.snapshot.epoch
    assert station.snapshot.refusal_of(during) is ErrorCode.STORAGE
    station.recover()
    assert station.snapshot.refusal_of(during) is ErrorCode.STORAGE
    assert station.snapshot.refusal_of(before) is ErrorCode.ABORTED, "it was in flight when the station left production"
    assert station.snapshot.refusal_of(station.snapshot.epoch) is ErrorCode.NONE
    station.prepare()
    station.abandon()
    assert station.snapshot.refusal_of(during) is ErrorCode.ABORTED


def test_a_stopped_station_stays_stopped_over_a_product_change(station: Station) -> None:
    station.set_up(active())
    station.run(False)
    station.prepare()
    station.activate(active())
    assert station.snapshot.refusal is ErrorCode.ABORTED
    assert station.snapshot.st is StationState.HALTED
    station.run(True)
    assert station.snapshot.refusal is ErrorCode.NONE


def test_a_new_state_is_announced_before_any_part_is_judged_by_it(station: Station) -> None:
    seen = []
    station.set_up(active())
    station.announce = lambda: seen.append((station.state_message(0).rcp, station.snapshot.active))
    old = station.snapshot.active
    station.activate(active(rcp=9))
    assert seen == [(9, old)]


def test_one_camera_of_two_lost_is_told_and_the_other_goes_on(station: Station) -> None:
    station.set_up(active())
    station.set_camera("left", ErrorCode.NONE)
    station.set_camera("right", ErrorCode.CAMERA_LOST)
    assert _said(station) == (StationState.CONTINUOUS_EXECUTION, 3, ErrorCode.CAMERA_LOST)
    assert station.snapshot.refusal is ErrorCode.NONE
    station.set_camera("left", ErrorCode.FRAME_TIMEOUT)
    assert _said(station) == (StationState.ERROR, 3, ErrorCode.FRAME_TIMEOUT)
    station.set_camera("left", ErrorCode.NONE)
    station.set_camera("right", ErrorCode.NONE)
    assert _said(station) == (StationState.CONTINUOUS_EXECUTION, 3, 0)


def test_a_station_that_cannot_store_verdicts_is_in_error_until_it_can(station: Station) -> None:
    station.set_up(active())
    station.fail(ErrorCode.STORAGE)
    assert station.snapshot.refusal is ErrorCode.STORAGE
    assert _said(station) == (StationState.ERROR, 3, ErrorCode.STORAGE)
    station.recover()
    assert station.snapshot.refusal is ErrorCode.NONE


def test_the_recipe_message_says_where_the_threshold_comes_from(station: Station) -> None:
    assert station.recipe_message() is None
    station.set_up(active())
    message = station.recipe_message()
    assert message is not None
    assert (message.rcp, message.name, message.cal, message.n) == (3, "bracket", "provisional", 4)


def test_a_halt_is_shown_also_while_a_product_is_prepared_and_outlives_it(station: Station) -> None:
    station.set_up(active())
    station.prepare()
    station.halt()
    assert _said(station)[0] == StationState.HALTED
    station.activate(active(rcp=4))
    assert _said(station)[:2] == (StationState.HALTED, 4)
    assert station.snapshot.refusal is ErrorCode.ABORTED
    station.reset()
    station.run(True)
    assert _said(station)[0] == StationState.CONTINUOUS_EXECUTION
