"""The short form of `make chaos`: a few faults on whole lines, with the same table."""

from pathlib import Path

import pytest

from tests.chaos.__main__ import strike
from tests.chaos.fault_list import listed
from tests.chaos.faults import Fault, UnavailableError
from tests.chaos.rig import Taught, taught

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SHORT = [fault for fault in listed(kills=2, swaps=8) if fault.short]


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Taught:
    return taught(tmp_path_factory.mktemp("chaos") / "data")


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: fault.name)
def test_no_row_is_lost_or_doubled_and_no_bad_part_accepted(fault: Fault, products: Taught) -> None:
    try:
        outcome = strike(fault, products)
    except UnavailableError as error:
        pytest.skip(str(error))
    assert outcome.counts.parts > outcome.counts.accepted > 10
    assert (outcome.counts.lost, outcome.counts.doubled, outcome.counts.bad_accepted) == (0, 0, 0)


def test_the_names_of_the_faults_are_their_own() -> None:
    names = [fault.name for fault in listed(1, 1)]
    assert len(set(names)) == len(names)
    assert {"kill -9 of the worker", "broker killed", "random kills"} <= set(names)


def test_a_line_that_accepts_without_a_row_is_found(products: Taught, tmp_path: Path) -> None:
    """The count must be able to fail: a row is taken away, one is doubled, one becomes a reject."""
    import sqlite3
    from contextlib import closing

    from tests.chaos.faults import database
    from tests.chaos.rig import count, plant

    with plant(products) as line:
        line.wait_accepted(12, since_s=0.0, timeout_s=60)
        line.end()
        sound = count(line)
        accepted = [one.trg for _, one in line.decisions if one.accepted]
        with closing(sqlite3.connect(database(line.line))) as connection, connection:
            connection.execute("UPDATE inspections SET verdict = 2 WHERE trg = ?", (accepted[0],))
            connection.execute("UPDATE inspections SET score = 1e9 WHERE trg = ?", (accepted[1],))
            connection.execute("DELETE FROM inspections WHERE trg = ?", (accepted[2],))
            connection.execute("UPDATE inspections SET trg = ? WHERE trg = ?", (accepted[3], accepted[4]))
        broken = count(line)
    assert (sound.lost, sound.doubled, sound.bad_accepted) == (0, 0, 0)
    assert (broken.lost, broken.doubled, broken.bad_accepted) == (2, 1, 4)
