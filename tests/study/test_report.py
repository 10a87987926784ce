"""A study's result and its report: who counts, what is said in words, what is on paper."""

from collections.abc import Iterator
from datetime import UTC
from html.parser import HTMLParser

import pytest

from inspector.agreement import assess
from inspector.study import report, result
from inspector.study.result import StudyResult
from tests.dashboard import seed
from tests.dashboard.judged import judged, line_of_gears, made
from tests.dashboard.seed import Scene


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One plant for all studies of this module; none of them touches another."""
    scene = line_of_gears(seed.empty(tmp_path_factory.mktemp("line")))
    yield scene
    scene.store.close()


def loaded(scene: Scene, study_id: int) -> StudyResult:
    with scene.store.read() as session:
        return result.load(session, study_id)


def test_who_has_not_finished_is_left_out_and_named(line: Scene) -> None:
    number = made(line, operators=("Anna", "Ben", "Chris"))
    assert loaded(line, number).agreement is None
    judged(line, number, "Anna")
    judged(line, number, "Chris", leave=1)
    found = loaded(line, number)
    assert (found.finished, found.unfinished) == (("Anna",), ("Ben", "Chris"))
    assert found.agreement is not None
    assert [judge.name for judge in found.agreement.operators] == ["Anna"]
    page = report.write_html(found, line.config.data_path, UTC)
    assert "Ben (0 of 12), Chris (11 of 12): left out of the figures" in page


def test_the_system_judges_with_its_stored_verdicts(line: Scene) -> None:
    number = made(line)
    judged(line, number, "Anna")
    found = loaded(line, number)
    assert found.agreement is not None
    assert found.agreement.system is not None
    assert found.agreement.system.effectiveness is not None
    assert found.agreement.system.effectiveness.rate == 1.0  # the truth of this study is what the verdicts say
    assert found.agreement.system.within is None


def test_json_holds_every_answer_and_every_figure_with_its_interval_and_band(line: Scene) -> None:
    number = made(line)
    judged(line, number, "Anna")
    judged(line, number, "Ben", wrong=frozenset({1}))
    told = result.to_json(loaded(line, number))
    assert told["progress"] == {"Anna": {"answered": 12, "of": 12}, "Ben": {"answered": 12, "of": 12}}
    assert len(told["parts"]) == 6
    assert told["parts"][1]["answers"]["Ben"] != told["parts"][1]["answers"]["Anna"]
    ben = told["agreement"]["operators"][1]
    assert ben["effectiveness"]["rate"] == pytest.approx(5 / 6)
    assert (ben["effectiveness"]["band"], ben["effectiveness"]["at_worst"]) == ("marginal", "unacceptable")
    assert told["agreement"]["between"]["count"] == 5
    assert told["agreement"]["fleiss_kappa"]["low"] < told["agreement"]["fleiss_kappa"]["value"] < 1.0


class Seen(HTMLParser):
    """Names of the tags of a page, and the addresses that it would load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_report_is_one_file_that_loads_nothing_and_runs_nothing(line: Scene) -> None:
    number = made(line, operators=("<b>Anna</b>", "Ben"))
    judged(line, number, "<b>Anna</b>")
    judged(line, number, "Ben", wrong=frozenset({0, 2}))
    page = report.write_html(loaded(line, number), line.config.data_path, UTC)
    seen = Seen()
    seen.feed(page)
    assert "script" not in seen.tags
    assert len(seen.addresses) == 2
    assert all(address.startswith("data:image/jpeg;base64,") for address in seen.addresses)
    assert "<b>Anna" not in page
    assert "Shift &lt;A&gt; &amp; B" in page
    assert "@page" in page
    assert "Measurement Systems Analysis" in page


def test_a_lost_picture_is_told_in_its_place(line: Scene) -> None:
    number = made(line)
    judged(line, number, "Anna", wrong=frozenset({0}))
    found = loaded(line, number)
    (line.config.data_path / found.parts[0].path).unlink()
    assert "cannot be read" in report.write_html(found, line.config.data_path, UTC)


def test_a_study_in_which_all_are_right_says_so_and_what_it_cannot_show() -> None:
    truth = {part: part < 10 for part in range(20)}
    same = {part: (bad, bad) for part, bad in truth.items()}
    (verdict, doubts) = report.conclusions(assess({"Anna": same, "Ben": same}, truth))
    assert "Anna, Ben: acceptable against the truth." in verdict
    assert "Settle" not in verdict
    assert "10 defects cannot show a miss rate of 2 %: even without a mistake up to 31 % are possible." in doubts


def test_without_a_truth_only_agreement_is_told() -> None:
    answers = {0: (True,), 1: (False,)}
    (verdict,) = report.conclusions(assess({"Anna": answers, "Ben": answers}, {}))
    assert "only agreement can be told" in verdict
    assert "kappa 1.00" in verdict


def test_one_opinion_only_has_no_kappa_and_says_why(line: Scene) -> None:
    number = made(line, parts=2)
    with line.store.read() as session:
        parts = result.load(session, number).parts
    bad = frozenset(part.position for part in parts if part.truth == "defect")
    judged(line, number, "Anna", wrong=bad)
    judged(line, number, "Ben", wrong=bad)
    assert "all answers were the same" in report.tables(loaded(line, number))
