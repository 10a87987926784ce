"""The drawn line: known truth, the same picture for the same numbers, and defects that can be seen."""

import time
from collections import Counter

import numpy as np
import pytest

from inspector import simulation

SEED = 7


def trigger_of(defect: str) -> int:
    """The first trigger at which that defect comes by."""
    return next(trigger for trigger in range(1, 500) if simulation.truth(SEED, trigger, 1.0) == defect)


@pytest.mark.parametrize("kind", simulation.KINDS)
def test_the_same_numbers_give_the_same_picture_and_others_another(kind: str) -> None:
    first, _ = simulation.draw_part(kind, SEED, 5, 0.0)
    again, _ = simulation.draw_part(kind, SEED, 5, 0.0)
    assert first.shape == (simulation.HEIGHT_PX, simulation.WIDTH_PX, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, simulation.draw_part(kind, SEED, 6, 0.0)[0])
    assert not np.array_equal(first, simulation.draw_part(kind, SEED + 1, 5, 0.0)[0])


@pytest.mark.parametrize("kind", simulation.KINDS)
def test_the_truth_without_drawing_is_what_is_drawn(kind: str) -> None:
    for trigger in range(1, 40):
        _, mask = simulation.draw_part(kind, SEED, trigger, 0.4)
        assert (mask is not None) == (simulation.truth(SEED, trigger, 0.4) is not None)


@pytest.mark.parametrize("kind", simulation.KINDS)
@pytest.mark.parametrize("defect", simulation.DEFECTS)
def test_each_defect_changes_the_picture_visibly_inside_its_mask_and_nowhere_else(kind: str, defect: str) -> None:
    trigger = trigger_of(defect)
    bad, mask = simulation.draw_part(kind, SEED, trigger, 1.0)
    good, no_mask = simulation.draw_part(kind, SEED, trigger, 0.0)
    assert no_mask is None
    assert mask is not None
    assert mask.dtype == np.bool_
    assert mask.shape == bad.shape[:2]
    change = np.abs(bad.astype(int) - good.astype(int)).max(axis=2)
    assert 150 < mask.sum() < 15_000
    assert change[mask].mean() > 20
    assert change[~mask].mean() < 0.5


@pytest.mark.parametrize("kind", simulation.KINDS)
def test_every_one_of_a_hundred_defects_has_a_mask_that_a_person_can_see(kind: str) -> None:
    areas_px = [
        int(mask.sum())
        for _, mask in (simulation.draw_part(kind, SEED, trigger, 1.0) for trigger in range(1, 101))
        if mask is not None
    ]
    assert len(areas_px) == 100
    assert min(areas_px) > 120


def test_the_share_of_bad_parts_is_the_defect_rate_and_all_defects_come() -> None:
    truths = Counter(simulation.truth(SEED, trigger, 0.15) for trigger in range(1, 4001))
    bad = 4000 - truths.pop(None)
    assert 0.13 < bad / 4000 < 0.17
    assert set(truths) == set(simulation.DEFECTS)
    assert len(simulation.DEFECTS) >= 5
    assert min(truths.values()) > 60


def test_a_part_that_is_bad_at_one_rate_is_bad_with_the_same_defect_at_a_higher_one() -> None:
    for trigger in range(1, 500):
        low, high = simulation.truth(SEED, trigger, 0.1), simulation.truth(SEED, trigger, 0.5)
        assert low is None or low == high
        assert simulation.truth(SEED, trigger, 0.0) is None
        assert simulation.truth(SEED, trigger, 1.0) is not None


@pytest.mark.parametrize("kind", simulation.KINDS)
def test_references_are_good_parts_that_the_line_never_shows(kind: str) -> None:
    references = simulation.draw_references(kind, 3, seed=SEED)
    line = [simulation.draw_part(kind, SEED, trigger, 0.0)[0] for trigger in range(4)]
    assert len(references) == 3
    for reference in references:
        assert not any(np.array_equal(reference, image) for image in line)
    assert np.array_equal(references[1], simulation.draw_references(kind, 3, seed=SEED)[1])
    mean = np.mean(references, axis=(0, 1, 2))
    assert np.abs(mean - np.mean(line, axis=(0, 1, 2))).max() < 12  # the same kind of part under the same lamp


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="flange"):
        simulation.draw_part("valve", SEED, 1, 0.0)


def test_negative_seeds_and_the_largest_trigger_can_be_drawn() -> None:
    image, _ = simulation.draw_part("gear", -1, 2**32 - 1, 0.15)
    assert image.any()


@pytest.mark.parametrize(
    ("trigger", "parts_per_product", "kind"),
    [(1, 3, "a"), (3, 3, "a"), (4, 3, "b"), (7, 3, "a"), (1, 0, "a"), (999, 0, "a")],
)
def test_the_kind_changes_every_so_many_triggers(trigger: int, parts_per_product: int, kind: str) -> None:
    assert simulation.kind_at(trigger, ("a", "b"), parts_per_product) == kind


def test_a_picture_takes_a_few_milliseconds_of_processor_time() -> None:
    for kind in simulation.KINDS:
        simulation.draw_references(kind, 1)
    start_s = time.process_time()
    for trigger in range(60):
        simulation.draw_part(simulation.KINDS[trigger % 3], SEED, trigger, 0.15)
    assert (time.process_time() - start_s) / 60 < 0.040  # about 0.005 s on an idle machine
