"""Rows that name pictures, straight from arrays: the picture is written and moved into its place in one call."""

from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from inspector.store import challenges, labels, products, studies
from inspector.store.challenges import Known
from inspector.store.labels import Said
from inspector.store.pictures import staged
from inspector.store.schema import ChallengeMember, Label, Product, Recipe, Study
from inspector.store.studies import Chosen, Plan
from inspector.types import ImageArray

Named = tuple[str, ImageArray]


def request_recipe(session: Session, data_path: Path, name: str, pictures: list[Named], **rest: Any) -> Recipe:
    with staged(data_path, pictures) as kept:
        return products.request_recipe(session, name, kept, **rest)


def add_label(session: Session, data_path: Path, product: Product, picture: Named, said: Said, **rest: Any) -> Label:
    with staged(data_path, [picture]) as (kept,):
        return labels.add_label(session, product, kept, said, **rest)


def add_member(
    session: Session, data_path: Path, product: Product, known: Known, *, image: ImageArray | None, **rest: Any
) -> ChallengeMember:
    with staged(data_path, [] if image is None else [(known.name, image)]) as kept:
        return challenges.add_member(session, product, known, *kept, **rest)


def make_study(
    session: Session, data_path: Path, plan: Plan, parts: list[tuple[Named, tuple[Any, ...]]], **rest: Any
) -> Study:
    """`parts` are pictures, each with what follows it in `Chosen`."""
    with staged(data_path, [picture for picture, _ in parts]) as kept:
        chosen = [Chosen(picture, *facts) for picture, (_, facts) in zip(kept, parts, strict=True)]
        return studies.make_study(session, plan, chosen, **rest)
