"""Studies in the database: a stored order, answers that are only added, pauses, copies that stay, the suggestion."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from sqlalchemy import create_engine, func, inspect, select

from inspector.errors import NotFoundError, StoreError, UsageError
from inspector.images import read_image
from inspector.store import engine, journal, labels, stations, studies
from inspector.store.engine import Store
from inspector.store.labels import DEFECT, GOOD
from inspector.store.schema import Audit, StudyAnswer
from inspector.store.studies import Candidate, Plan
from inspector.types import Verdict
from tests import stored
from tests.store.test_store import record

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (24, 32, 3), np.uint8)


def plan(**changes: object) -> Plan:
    values: dict[str, object] = {"product": "gear", "title": "shift A", "operators": ("Anna", "Ben"), "repeats": 2}
    return Plan(**({"seed": 3} | values | changes))  # type: ignore[arg-type]


def made(store: Store, folder: Path, parts: int = 5) -> int:
    with store.write() as session:
        stored.request_recipe(session, folder, "gear", [("a.png", picture(99))], station_id=None, who="me", now=NOW)
        chosen = [((f"{number}.png", picture(number)), (GOOD, studies.FROM_ENGINEER)) for number in range(parts)]
        return stored.make_study(session, folder, plan(), chosen, who="me", now=NOW).id


def ask(store: Store, study_id: int, operator: str) -> studies.Question | None:
    with store.read() as session:
        return studies.question(session, study_id, operator)


def say(store: Store, study_id: int, operator: str, asked: studies.Question, said: str = GOOD) -> None:
    with store.write() as session:
        studies.answer(session, study_id, operator, asked, said, took_s=1.5, now=NOW)


def test_each_operator_is_asked_every_part_once_in_each_round_in_the_stored_order(store: Store, tmp_path: Path) -> None:
    number = made(store, tmp_path)
    with store.read() as session:
        study = studies.get_study(session, number)
    ids = [part.id for part in study.parts]
    for place, operator in enumerate(study.operators):
        seen: list[tuple[int, int]] = []
        while asked := ask(store, number, operator):
            assert (asked.done, asked.total) == (len(seen), 10)
            seen.append((asked.repeat, ids.index(asked.part_id)))
            say(store, number, operator, asked)
        assert seen == [(repeat, part) for repeat in range(2) for part in study.orders[place][repeat]]
    with store.read() as session:
        assert studies.answered(session, number) == {"Anna": 10, "Ben": 10}
        assert [row.took_s for row in studies.answers_of(session, number)] == [1.5] * 20


def test_an_answer_is_never_changed_nor_given_out_of_turn(store: Store, tmp_path: Path) -> None:
    number = made(store, tmp_path)
    first = ask(store, number, "Anna")
    assert first is not None
    say(store, number, "Anna", first, DEFECT)
    with pytest.raises(UsageError, match="never changed"):
        say(store, number, "Anna", first, GOOD)
    with pytest.raises(UsageError, match="expected good or defect"):
        say(store, number, "Anna", first, "perhaps")
    with store.read() as session:
        assert [row.answer for row in studies.answers_of(session, number)] == [DEFECT]


def test_the_database_itself_takes_no_second_answer_to_a_question(store: Store, tmp_path: Path) -> None:
    number = made(store, tmp_path)
    asked = ask(store, number, "Anna")
    assert asked is not None
    say(store, number, "Anna", asked)
    same = {"study_id": number, "part_id": asked.part_id, "operator": "Anna", "repeat": asked.repeat}
    with pytest.raises(StoreError), store.write() as session:
        session.add(StudyAnswer(**same, answer=DEFECT, took_s=1.0, at=NOW))
    with store.read() as session:
        assert session.scalar(select(func.count()).select_from(StudyAnswer)) == 1


def test_a_pause_changes_nothing_for_one_operator_or_the_other(store: Store, tmp_path: Path) -> None:
    number = made(store, tmp_path)
    for _ in range(3):
        asked = ask(store, number, "Anna")
        assert asked is not None
        say(store, number, "Anna", asked)
    later = ask(store, number, "Anna")
    of_ben = ask(store, number, "Ben")
    assert later == ask(store, number, "Anna")
    assert later is not None
    assert of_ben is not None
    assert (later.done, of_ben.done) == (3, 0)


def test_orders_differ_and_come_again_from_the_same_seed() -> None:
    orders = studies.orders(12, 2, 3, seed=5)
    assert orders == studies.orders(12, 2, 3, seed=5)
    assert orders != studies.orders(12, 2, 3, seed=6)
    flat = [tuple(order) for rounds in orders for order in rounds]
    assert len(set(flat)) == 6
    assert all(sorted(order) == list(range(12)) for order in flat)


def test_no_round_begins_with_the_part_that_ended_the_one_before() -> None:
    for seed in range(60):
        for rounds in studies.orders(3, 1, 4, seed):
            assert all(before[-1] != after[0] for before, after in pairwise(rounds))
            assert all(sorted(order) == [0, 1, 2] for order in rounds)


def test_pictures_are_copied_so_that_tidying_the_line_up_takes_nothing_from_a_study(
    store: Store, tmp_path: Path
) -> None:
    number = made(store, tmp_path)
    with store.read() as session:
        study = studies.get_study(session, number)
        actions = list(session.scalars(select(Audit.action)))
    for place, part in enumerate(study.parts):
        assert part.path.startswith(f"studies/{number}/")
        assert np.array_equal(read_image(tmp_path / part.path), picture(place))
    assert "study" in actions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operators": ()}, "1 to 8 operators"),
        ({"operators": ("Anna", " anna ")}, "one stands twice"),
        ({"operators": ("A" * 65,)}, "at most 64 characters"),
        ({"repeats": 0}, "1 to 5 times"),
        ({"title": " "}, "needs a title"),
    ],
)
def test_a_plan_with_a_mistake_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(**changes)


def test_a_study_of_too_few_parts_or_one_picture_twice_is_refused_and_leaves_nothing(
    store: Store, tmp_path: Path
) -> None:
    made(store, tmp_path)
    twice = [(("a.png", picture(1)), ()), (("b.png", picture(1)), ()), (("c.png", picture(2)), ())]
    for parts, message in ((twice, "same picture"), (twice[:1], "2 to 200 parts")):
        with pytest.raises(UsageError, match=message), store.write() as session:
            stored.make_study(session, tmp_path, plan(), parts, who="me", now=NOW)
    with store.read() as session:
        assert len(studies.list_studies(session)) == 1


def test_what_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    number = made(store, tmp_path)
    with store.read() as session:
        with pytest.raises(NotFoundError, match="there is no study 9; there are: 1"):
            studies.get_study(session, 9)
        with pytest.raises(NotFoundError, match="no operator of study"):
            studies.question(session, number, "Zoe")


def test_candidates_are_the_last_parts_with_their_labels_and_labelled_pictures_from_elsewhere(
    store: Store, tmp_path: Path
) -> None:
    with store.write() as session:
        recipe = stored.request_recipe(
            session, tmp_path, "gear", [("a.png", picture(99))], station_id=None, who="me", now=NOW
        )
        line = stations.ensure_station(session, "line").id
        verdicts = (Verdict.OK, Verdict.NG, Verdict.OK)
        rows = [record(number, verdict, recipe_id=recipe.id) for number, verdict in enumerate(verdicts, 1)]
        committed = journal.commit_verdicts(session, line, rows)
        for one in committed[:2]:  # the third part's picture was not kept
            journal.set_image_paths(session, one.inspection_id, f"images/{one.inspection_id}.jpg", None)
        said = ((committed[1].inspection_id, DEFECT), (None, GOOD), (None, "unusable"))
        for place, (inspection_id, label) in enumerate(said):
            stored.add_label(
                session,
                tmp_path,
                recipe.product,
                (f"{place}.png", picture(place)),
                labels.Said(label),
                inspection_id=inspection_id,
                source="review",
                who="me",
                now=NOW,
            )
        found = studies.candidates(session, "gear")
    assert [(one.name, one.truth, one.verdict) for one in found] == [
        ("part-2", DEFECT, Verdict.NG),
        ("part-1", "", Verdict.OK),
        ("1.png", GOOD, None),
    ]


def candidate(number: int, verdict: Verdict, score: float, truth: str = "") -> Candidate:
    return Candidate(f"part-{number}", f"images/{number}.jpg", truth, number, verdict, score, 1.0)


def test_the_suggestion_is_a_third_near_the_threshold_and_the_rest_half_good_half_bad() -> None:
    good = [candidate(number, Verdict.OK, 0.5) for number in range(40)]
    bad = [candidate(number, Verdict.NG, 1.8) for number in range(40, 60)]
    near = [candidate(number, Verdict.OK, 0.98) for number in range(60, 70)]
    found = studies.suggest([*good, *near, *bad], 24)
    assert len(found) == len({one.key for one in found}) == 24
    assert sum(one.distance < 0.1 for one in found) >= 8
    assert sum(one.looks_bad for one in found) == 8


def test_the_suggestion_takes_labelled_parts_first_and_fills_up_where_a_kind_is_short() -> None:
    good = [candidate(number, Verdict.OK, 0.5, GOOD if number > 30 else "") for number in range(40)]
    bad = [candidate(50, Verdict.NG, 1.8)]
    found = studies.suggest([*good, *bad], 12)
    assert len(found) == 12
    assert sum(one.truth == GOOD for one in found) >= 7
    assert bad[0] in found
    assert len(studies.suggest(bad, 12)) == 1
    assert studies.suggest([], 12) == []
    only_bad = [candidate(number, Verdict.NG, 1.8) for number in range(30)]
    assert len(studies.suggest(only_bad, 12)) == 12


def test_the_revision_goes_back_and_forth_and_leaves_the_rest_alone(url: str, tmp_path: Path) -> None:
    engine.upgrade(url)
    store = engine.open_store(url)
    made(store, tmp_path)
    store.close()
    config = engine._alembic()
    bind = create_engine(url)
    with bind.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
    tables = set(inspect(bind).get_table_names())
    assert not tables & {"studies", "study_parts", "study_answers"}
    assert {"products", "labels"} <= tables
    engine.upgrade(url)
    engine.check(url)
    bind.dispose()
