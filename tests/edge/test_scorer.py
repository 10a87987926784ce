"""One bad picture costs one verdict; a broken device ends the worker."""

from math import nan

import numpy as np
import pytest

from edge import scorer
from inspector.errors import EncoderError, EncoderMismatchError
from inspector.types import ImageArray
from tests.edge.detector_stub import IMAGE, StubDetector, active

POISON = np.full((20, 30, 3), 255, np.uint8)


def _fails_on_poison(image: ImageArray) -> float:
    if image is POISON:
        raise RuntimeError("poisoned")
    return 0.5


def test_a_batch_that_works_is_scored_at_once() -> None:
    recipe = active()
    assert [one is not None for one in scorer.inspect(recipe, [IMAGE] * 3)] == [True] * 3
    assert isinstance(recipe.detector, StubDetector)
    assert recipe.detector.batches == [3]


def test_a_poisoned_picture_costs_only_its_own_verdict() -> None:
    found = scorer.inspect(active(_fails_on_poison), [IMAGE, POISON, IMAGE])
    assert [one is None for one in found] == [False, True, False]


def test_a_batch_of_poison_is_told_from_a_broken_device_by_a_reference() -> None:
    assert scorer.inspect(active(_fails_on_poison), [POISON, POISON]) == [None, None]
    assert scorer.inspect(active(_fails_on_poison), [POISON]) == [None]


def test_a_broken_device_is_an_error() -> None:
    def broken(_image: ImageArray) -> float:
        raise RuntimeError("device lost")

    with pytest.raises(EncoderError, match="device lost"):
        scorer.inspect(active(broken), [IMAGE, IMAGE])


def test_a_recipe_whose_golden_picture_scores_something_else_fails_its_self_test() -> None:
    for score in (nan, 0.51):
        with pytest.raises(EncoderMismatchError, match="golden picture"):
            scorer.self_test(active(lambda _, score=score: score))


def test_the_self_test_runs_with_one_picture_and_with_a_full_batch() -> None:
    recipe = active()
    scorer.self_test(recipe, 8)
    assert isinstance(recipe.detector, StubDetector)
    assert recipe.detector.batches == [1, 8]
