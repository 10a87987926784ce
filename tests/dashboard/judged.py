"""Studies as engineers make and operators judge them, without a page."""

from datetime import UTC, datetime, timedelta

from inspector.images import read_image
from inspector.store import studies
from inspector.store.labels import DEFECT, GOOD
from inspector.store.studies import Plan
from inspector.types import Verdict
from tests import stored
from tests.dashboard import seed
from tests.dashboard.seed import Scene


def line_of_gears(scene: Scene) -> Scene:
    """A line that has run for a while; all pictures are kept."""
    now = datetime.now(UTC)
    recipe = seed.teach(scene, "gear", "gear", now=now - timedelta(hours=1), pictures=3)
    seed.activate(scene, recipe, now - timedelta(minutes=50))
    seed.inspect(scene, recipe, "gear", range(1, 29), now, pictures=28)
    return scene


def made(scene: Scene, *, parts: int = 6, operators: tuple[str, ...] = ("Anna", "Ben"), repeats: int = 2) -> int:
    """A study of the product `gear` whose truth is what the verdicts say; gives its number."""
    now, data_path = datetime.now(UTC), scene.config.data_path
    with scene.store.write() as session:
        chosen = [
            (
                (one.name, read_image(data_path / one.path)),
                (
                    GOOD if one.verdict is Verdict.OK else DEFECT,
                    studies.FROM_ENGINEER,
                    one.inspection_id,
                    one.verdict,
                ),
            )
            for one in studies.suggest(studies.candidates(session, "gear"), parts)
        ]
        plan = Plan("gear", "Shift <A> & B", operators, repeats, seed=5)
        return stored.make_study(session, data_path, plan, chosen, who="me", now=now).id


def judged(scene: Scene, study_id: int, operator: str, *, wrong: frozenset[int] = frozenset(), leave: int = 0) -> None:
    """All answers of an operator but the last `leave`; those about parts at the positions `wrong` are wrong."""
    with scene.store.write() as session:
        parts = {part.id: part for part in studies.get_study(session, study_id).parts}
        while (asked := studies.question(session, study_id, operator)) and asked.total - asked.done > leave:
            part = parts[asked.part_id]
            opposite = {GOOD: DEFECT, DEFECT: GOOD}
            said = opposite[part.truth] if part.position in wrong else part.truth
            studies.answer(session, study_id, operator, asked, said, took_s=2.0, now=datetime.now(UTC))
