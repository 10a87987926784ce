"""Pages run without a server and without a browser, on a database of their own."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.dashboard import seed
from tests.dashboard.seed import Scene

RUN_TIMEOUT_S = 20
PageRunner = Callable[[str, Scene], AppTest]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A plant on its first day."""
    made = seed.empty(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def run_page(monkeypatch: pytest.MonkeyPatch) -> Iterator[PageRunner]:
    """Run one page of a plant; give what it shows."""

    def run(name: str, plant: Scene) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app.py", "--config", str(plant.config_path)])
        script = f"from dashboard.views.{name} import page\npage()\n"
        return AppTest.from_string(script, default_timeout=RUN_TIMEOUT_S).run()

    yield run
    st.cache_data.clear()
    st.cache_resource.clear()


def shown(page: AppTest) -> str:
    """All the text of a page."""
    assert not page.exception, page.exception
    kinds = (page.html, page.markdown, page.caption, page.warning, page.error, page.info, page.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind)
