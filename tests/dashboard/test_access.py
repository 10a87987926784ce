"""Who may do what: every function of the pages that writes is tried by those who may not, and then by those who may."""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
import yaml
from sqlalchemy import select

import dashboard as package
from dashboard import (
    access,
    actions,
    known_parts,
    references,
    revisions,
    study_form,
    study_judging,
    teach,
    uploads,
    verification,
    where,
)
from dashboard.context import Dashboard, dashboard, told
from dashboard.people import is_local, known_users
from dashboard.views import health, products, review
from inspector import simulation
from inspector.errors import AccessError, ConfigError, LoggedOutError
from inspector.images import encode_png
from inspector.store import challenges, labels, studies
from inspector.store.schema import Audit, Base, Command, InspectionRow, Recipe, ReferenceImage, Study
from inspector.store.studies import Plan
from inspector.users import Role, User, remove_user
from tests import stored
from tests.dashboard import seed
from tests.dashboard.conftest import PageRunner, shown
from tests.dashboard.judged import line_of_gears, made
from tests.dashboard.logins import logged_in, user
from tests.dashboard.seed import Scene

PACKAGE = Path(package.__file__).parent
GATES = {("access", "require"), ("context", "require")}
"""They give the permits; everything else needs one."""


def upload(name: str = "part.png", number: int = 77) -> uploads.Upload:
    return uploads.read_upload(name, encode_png(simulation.draw_references("gear", 1, seed=number)[0]))


@dataclass(frozen=True)
class Deed:
    """A function of the pages that writes, who may use it, and a call of it that changes something."""

    role: Role
    do: Callable[[Dashboard], object]


def recipe_of(plant: Dashboard) -> Any:
    return products.data.products(plant.store, plant.station).products["gear"][-1]


def reference_id(plant: Dashboard, place: int) -> int:
    with plant.store.read() as session:
        return list(session.scalars(select(ReferenceImage.id).order_by(ReferenceImage.id)))[place]


def rejects(plant: Dashboard) -> list[int]:
    with plant.store.read() as session:
        query = select(InspectionRow.id).where(InspectionRow.verdict == 2, InspectionRow.image_path.is_not(None))
        return list(session.scalars(query.order_by(InspectionRow.id)))


def failed_run(plant: Dashboard) -> int:
    with plant.store.read() as session:
        run = challenges.standing(session, 1)
    assert run is not None
    return run.id


def make_study(plant: Dashboard) -> None:
    with plant.store.read() as session:
        found = studies.suggest(studies.candidates(session, "gear"), 3)
    cards = [(study_form.Card(one.key, one.name, None, "", one.truth, "", one), "good") for one in found]
    study_form.make(plant, Plan("gear", "a study", ("anna",), 1, 5), cards, 0)


def answer(plant: Dashboard) -> None:
    with plant.store.read() as session:
        study_id = session.scalars(select(Study.id)).first() or 0
        asked = studies.question(session, study_id, "anna")
    assert asked is not None
    st.session_state[study_judging.SHOWN] = ((study_id, "anna", asked.repeat, asked.part_id), 0.0)
    study_judging._answer(plant, study_id, "anna", asked, "good")


def say(plant: Dashboard, place: int, do: Callable[[int], object]) -> None:
    number = rejects(plant)[place]
    st.session_state[review.SHOWN] = number
    do(number)


DEFECT = labels.Said(labels.DEFECT, "scratch", (0.1, 0.1, 0.2, 0.2))
LESSON = labels.Said(labels.DEFECT, "dent", (0.1, 0.1, 0.2, 0.2), teaches=True)
STOP = actions.Ask("station:stop", "Stop", "stop", {})
DEEDS: dict[tuple[str, str], Deed] = {
    ("actions", "submit"): Deed(Role.OPERATOR, lambda plant: actions.submit(plant, STOP, 4711)),
    ("references", "_keep"): Deed(Role.OPERATOR, lambda plant: references._keep(plant, reference_id(plant, 0))),
    ("references", "_drop"): Deed(
        Role.OPERATOR, lambda plant: references._drop(plant, recipe_of(plant), reference_id(plant, 1))
    ),
    ("references", "_add"): Deed(
        Role.OPERATOR, lambda plant: references._add(plant, recipe_of(plant), rejects(plant)[0])
    ),
    ("revisions", "request"): Deed(Role.OPERATOR, lambda plant: _told(lambda: revisions.request(plant, "gear"))),
    ("known_parts", "_add_files"): Deed(
        Role.OPERATOR, lambda plant: known_parts._add_files(plant, "gear", 1, [upload()], ("good", ""))
    ),
    ("known_parts", "_add_label"): Deed(
        Role.OPERATOR,
        lambda plant: known_parts._add_label(plant, "gear", 1, verification.labelled(plant.store, "gear")[0]),
    ),
    ("known_parts", "_add_physical"): Deed(
        Role.OPERATOR, lambda plant: known_parts._add_physical(plant, "gear", 1, ("master 7", "good", "", "M-7"))
    ),
    ("known_parts", "_retire"): Deed(Role.OPERATOR, lambda plant: known_parts._retire(plant, [1])),
    ("study_form", "make"): Deed(Role.ENGINEER, make_study),
    ("study_judging", "_answer"): Deed(Role.OPERATOR, answer),
    ("teach", "request_build"): Deed(
        Role.OPERATOR, lambda plant: teach.request_build(plant, "flange 50", [upload()], 0)
    ),
    ("where", "_request"): Deed(
        Role.OPERATOR,
        lambda plant: where._request(plant, recipe_of(plant), (where.Roi("left", (0.0, 0.0, 0.5, 1.0)),)),
    ),
    ("health", "_override"): Deed(
        Role.ENGINEER, lambda plant: health._override(plant, failed_run(plant), "the set was wrong")
    ),
    ("products", "_override"): Deed(
        Role.ENGINEER, lambda plant: products._override(plant, recipe_of(plant).id, "known and harmless")
    ),
    ("review", "_label"): Deed(
        Role.OPERATOR, lambda plant: _told(lambda: review._label(plant, rejects(plant)[0], DEFECT))
    ),
    ("review", "_answer"): Deed(
        Role.OPERATOR, lambda plant: say(plant, 1, lambda number: review._answer(plant, number, DEFECT))
    ),
    ("review", "_teach"): Deed(
        Role.OPERATOR, lambda plant: say(plant, 1, lambda number: review._teach(plant, number, LESSON))
    ),
    ("review", "_add_reference"): Deed(Role.OPERATOR, lambda plant: review._add_reference(plant, rejects(plant)[1])),
    ("review", "_recalibrate"): Deed(Role.OPERATOR, lambda plant: review._recalibrate(plant, "gear", 0.05, 1.0)),
}
HELPERS = {("known_parts", "_add"), ("study_judging", "_judge")}
"""They write with a permit that their caller got, or get one for it."""


def _told(do: Callable[[], object]) -> None:
    with told():
        do()


def writers() -> set[tuple[str, str]]:
    """Module and name of each function of the package that asks for a permit or writes, or calls one that does."""
    calls: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.stem != "__main__":  # it writes to standard error
            calls |= called(path)
    found = {key for key, names in calls.items() if {"require", "write"} & {name for _, name in names}} - GATES
    while more := {key for key, names in calls.items() if names & found} - found - GATES:
        found |= more
    return found - {("access", "write")}


def called(path: Path) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """What each function of a module calls, as (module or object, name)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: (str(node.module).rsplit(".", 1)[-1], alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = found.setdefault((path.stem, node.name), set())
            for one in ast.walk(node):
                if isinstance(one, ast.Call) and isinstance(one.func, ast.Name):
                    names.add(imported.get(one.func.id, (path.stem, one.func.id)))
                elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute):
                    names.add((getattr(one.func.value, "id", ""), one.func.attr))
    return found


def picture_of_all(scene: Scene) -> tuple[dict[str, list[Any]], set[str]]:
    """Every row of every table, and every file of the data folder but the database's own."""
    with scene.store.read() as session:
        rows = {
            name: [tuple(row) for row in session.execute(select(table))] for name, table in Base.metadata.tables.items()
        }
    folder = scene.config.data_path
    files = {str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file() and ".db" not in one.name}
    return rows, files - {"users.yaml", "users.yaml.lock"}


def make_scene(folder: Path) -> Scene:
    """A line on which every deed has something to do."""
    scene = line_of_gears(seed.empty(folder))
    now = datetime.now(UTC)
    with scene.store.write() as session:
        recipe = session.scalars(select(Recipe)).one()
        finding = {"kind": "outlier", "reason": "unlike all others", "score": 3.2}
        recipe.references[0].findings = [finding]
        recipe.report = {"escapes": [{"picture": "scratch.png"}]}
        row = session.scalars(select(InspectionRow).where(InspectionRow.verdict == 2)).first()
        assert row is not None
        image = ("label.png", simulation.draw_references("gear", 1, seed=5)[0])
        stored.add_label(
            session,
            scene.config.data_path,
            recipe.product,
            image,
            labels.Said("defect"),
            source="cli",
            who="me",
            now=now,
        )
    seed.known_parts(scene, recipe, "gear", now - timedelta(hours=2))
    seed.challenge(scene, recipe, "not seen", now - timedelta(hours=1))
    made(scene, parts=3, operators=("anna", "ben"), repeats=1)
    return scene


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A line that nobody in these tests may change."""
    scene = make_scene(tmp_path_factory.mktemp("untouched"))
    yield scene
    scene.store.close()


@pytest.fixture(autouse=True)
def tab(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A tab of its own."""
    monkeypatch.setattr(study_judging, "MIN_LOOK_S", 0.0)
    st.session_state.clear()
    yield
    st.session_state.clear()
    st.cache_data.clear()
    st.cache_resource.clear()


def plant_of(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Dashboard:
    monkeypatch.setattr(sys, "argv", ["app.py", "--config", str(scene.config_path)])
    return dashboard()


def test_every_function_that_writes_is_tried_here() -> None:
    assert writers() - HELPERS == set(DEEDS)


def test_no_module_but_access_has_a_database_to_write_to() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name != "access.py":
            assert "store.write" not in text, path
            assert "open_store" not in text, path
            assert "StoreWriter" not in text, path


@pytest.mark.parametrize("deed", DEEDS, ids=".".join)
@pytest.mark.parametrize("name", ["viewer", "operator", "nobody", "removed"])
def test_who_may_not_changes_neither_row_nor_command_nor_audit_nor_file(
    untouched: Scene, monkeypatch: pytest.MonkeyPatch, deed: tuple[str, str], name: str
) -> None:
    what = DEEDS[deed]
    if name == "operator" and what.role is Role.OPERATOR:
        name = "viewer"
    role = Role.OPERATOR if name == "operator" else Role.ENGINEER if name == "removed" else Role.VIEWER
    there = known(untouched, name, role)
    logged_in(monkeypatch, None if name == "nobody" else there)
    if name == "nobody":
        plant = Dashboard(untouched.config, untouched.store, "line1", access.ANYBODY)  # what an old tab still holds
    else:
        plant = plant_of(untouched, monkeypatch)
        if name == "removed":
            remove_user(untouched.config.users_path, name)
    before = picture_of_all(untouched)

    what.do(plant)

    assert picture_of_all(untouched) == before


def known(scene: Scene, name: str, role: Role) -> User:
    """The user of this name, made at the first time."""
    there = known_users(scene.config)
    return there[name] if name in there else user(scene, name, role)


def test_who_may_changes_something_under_their_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_scene(tmp_path / "line")
    people = {role: user(scene, name, role) for role, name in ((Role.OPERATOR, "anna"), (Role.ENGINEER, "emil"))}
    for key, deed in DEEDS.items():
        logged_in(monkeypatch, people[deed.role])
        st.session_state.clear()
        before, _ = picture_of_all(scene)
        deed.do(plant_of(scene, monkeypatch))
        after, _ = picture_of_all(scene)
        changed = {name for name in after if after[name] != before[name]}
        assert changed, f"{key} has changed nothing"
        fresh = after["audit"][len(before["audit"]) :]
        who = {row[list(Base.metadata.tables["audit"].columns.keys()).index("who")] for row in fresh}
        assert who == {people[deed.role].name} or (not fresh and changed <= {"study_answers"}), (key, changed)
    with scene.store.read() as session:
        assert {row.created_by for row in session.scalars(select(Command))} == {"anna"}
        assert "dashboard" not in {row.who for row in session.scalars(select(Audit).where(Audit.id > 20))}


def test_without_users_everybody_on_this_machine_may_do_everything_as_before(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in(monkeypatch, None)

    actions.submit(plant_of(scene, monkeypatch), STOP, 1)

    with scene.store.read() as session:
        assert [row.created_by for row in session.scalars(select(Command))] == ["dashboard"]


def test_pages_that_the_network_reaches_let_nobody_in_without_users(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(scene, host="0.0.0.0")  # noqa: S104 - not bound
    logged_in(monkeypatch, None)

    with pytest.raises(LoggedOutError):
        plant_of(scene, monkeypatch)


def change(scene: Scene, **keys: object) -> None:
    """Set keys of the configuration's section `dashboard`."""
    values = yaml.safe_load(scene.config_path.read_text(encoding="utf-8"))
    values["dashboard"] |= keys
    scene.config_path.write_text(yaml.safe_dump(values), encoding="utf-8")


def test_a_file_of_users_that_is_not_understood_lets_nobody_in(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.config.users_path.write_text("users: 3\n", encoding="utf-8")
    logged_in(monkeypatch, None)

    with pytest.raises(ConfigError, match="expected a list"):
        plant_of(scene, monkeypatch)


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("no.such.host.invalid", False)],
)
def test_only_a_loopback_address_is_local(host: str, local: bool) -> None:
    assert is_local(host) is local
    assert not any(is_local(other) for other in ("0.0.0.0", "::", "192.168.1.5", ""))  # noqa: S104


def test_an_operator_answers_in_a_study_under_their_own_name_only(
    untouched: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_in(monkeypatch, known(untouched, "ben", Role.OPERATOR))
    before = picture_of_all(untouched)

    answer(plant_of(untouched, monkeypatch))

    assert picture_of_all(untouched) == before
    with pytest.raises(AccessError, match="only anna may answer as anna, but ben is logged in"):
        study_judging._judge(plant_of(untouched, monkeypatch), "anna")


def test_buttons_that_a_role_may_not_use_are_locked_and_say_who_may(
    untouched: Scene, run_page: PageRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed.alive(untouched)
    logged_in(monkeypatch, known(untouched, "viewer", Role.VIEWER))
    stop = run_page("live", untouched).button(key="button-station-stop")
    assert (stop.disabled, stop.help) == (True, "Only for operators and engineers; you are logged in as viewer.")
    logged_in(monkeypatch, known(untouched, "operator", Role.OPERATOR))
    assert not run_page("live", untouched).button(key="button-station-stop").disabled
    number = failed_run(plant_of(untouched, monkeypatch))
    page = run_page("health", untouched)
    page.text_input(key=f"health:reason:{number}").set_value("because").run()
    override = page.button(key=f"health:override:{number}")
    assert (override.disabled, override.help) == (True, "Only for engineers; you are logged in as operator.")


def test_a_study_offers_who_can_log_in_and_each_judges_under_their_own_name(
    untouched: Scene, run_page: PageRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(untouched, "viewer", Role.VIEWER)
    logged_in(monkeypatch, known(untouched, "ben", Role.OPERATOR))
    page = run_page("study", untouched)
    assert [button.disabled for button in page.button if str(button.key).startswith("study:begin:")] == [True, False]
    next(button for button in page.button if button.label == "Make a study").click().run()
    operators = page.multiselect(key="study:operators:0").options
    assert "ben" in operators
    assert "viewer" not in operators
    logged_in(monkeypatch, known(untouched, "carl", Role.OPERATOR))
    assert "carl is none of the operators of this study." in shown(run_page("study", untouched))


def test_a_click_in_a_part_that_renews_itself_keeps_the_login_and_the_renewing_does_not(
    untouched: Scene, run_page: PageRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = logged_in(monkeypatch, known(untouched, "viewer", Role.VIEWER))
    session = access.SESSIONS._by_token[token]
    since = session.used_monotonic_s
    page = run_page("live", untouched)
    page.run()
    assert session.used_monotonic_s == since
    page.toggle(key="live:heat_map").set_value(False).run()
    assert session.used_monotonic_s > since
