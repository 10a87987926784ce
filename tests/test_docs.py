"""The documentation must not lie: what the program has stands in the README, and what the README names exists."""

import re
from pathlib import Path

import click
import pytest
import typer

from edge.telemetry import metric_names
from inspector.cli import app
from inspector.config import Config
from inspector.contract.topics import KINDS
from inspector.store.schema import Base

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def leaves(command: click.Command, path: str = "inspector") -> list[tuple[str, click.Command]]:
    children: dict[str, click.Command] | None = getattr(command, "commands", None)
    if children is None:
        return [(path, command)]
    return [leaf for name, child in children.items() for leaf in leaves(child, f"{path} {name}")]


COMMANDS = leaves(typer.main.get_command(app))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_each_command_is_in_the_readme_and_its_help_has_an_example(path: str, command: click.Command) -> None:
    name = path.rsplit(maxsplit=1)[-1]
    group = " ".join(path.split()[:2])

    assert f"`{path}" in README or (f"`{group}" in README and f"`{name}" in README)
    assert command.help
    assert f"Example: `{path}" in command.help, f"{path} --help has no example"


@pytest.mark.parametrize("table", sorted(Base.metadata.tables))
def test_each_table_is_in_the_readme(table: str) -> None:
    assert f"`{table}`" in README


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_topic_is_in_the_readme(kind: str) -> None:
    assert f"| `{kind}`" in README


@pytest.mark.parametrize("section", [name for name in Config.model_fields if name != "data_dir"])
def test_each_section_of_the_configuration_is_in_the_readme(section: str) -> None:
    assert f"`{section}`" in README


@pytest.mark.parametrize("metric", metric_names())
def test_each_metric_is_in_the_readme(metric: str) -> None:
    assert f"`{metric}`" in README


def test_the_readme_names_no_metric_that_is_missing() -> None:
    assert set(re.findall(r"`(inspector_[a-z_]+)`", README)) == set(metric_names())


def test_links_and_pictures_of_the_readme_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (REPOSITORY / target).exists(), f"README links to {target}"


def test_the_readme_names_no_make_target_that_is_missing() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"`?make ([a-z]+)`?", README):
        if target not in ("python3-venv",):
            assert re.search(rf"^{target}:", makefile, re.M) or target in makefile, f"README names make {target}"
