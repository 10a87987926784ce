"""What a person decides about the references of a revision: keep one in spite of a finding, or go on without it.

A reference is never taken out of a revision that exists: going on without it means a new revision. May import the store.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from inspector.errors import NotFoundError, UsageError
from inspector.store.products import find_product, find_recipe
from inspector.store.schema import Audit, Recipe, ReferenceImage

ACCEPTED = "accepted"
"""Key of a finding's record under which stands who kept the picture, and when."""

Accepted = dict[tuple[str, str], dict[str, str]]
"""By SHA-256 of the picture's pixels and kind of finding."""


def newest_ready(session: Session, product_name: str) -> Recipe:
    """The revision whose references are looked at.

    Raises:
        NotFoundError: no such product, or none of its revisions is ready.
    """
    product = find_product(session, product_name)
    recipe = find_recipe(session, product.rcp)
    if recipe is None:
        raise NotFoundError(
            f"product {product.name!r} has no revision that is ready; see `inspector product show {product.name}`"
        )
    return recipe


def find_reference(recipe: Recipe, wanted: str) -> ReferenceImage:
    """A reference by its name, or by how its SHA-256 begins (eight characters or more).

    Raises:
        NotFoundError: there is none.
        UsageError: several have that name.
    """
    found = [one for one in recipe.references if one.name == wanted]
    if not found and len(wanted) >= 8:
        found = [one for one in recipe.references if one.sha256.startswith(wanted.lower())]
    where = f"{recipe.product.name} rev {recipe.rev}"
    if not found:
        known = ", ".join(one.name for one in recipe.references)
        raise NotFoundError(f"{where} has no reference {wanted!r}; its references are: {known}")
    if len(found) > 1:
        hashes = ", ".join(one.sha256[:12] for one in found)
        raise UsageError(f"{where} has {len(found)} references {wanted!r}; give one of {hashes} instead")
    return found[0]


def keep(session: Session, reference: ReferenceImage, who: str, now: datetime) -> None:
    """Accept what was found about a reference: it stays, its findings name who said so; audited.

    Raises:
        UsageError: nothing was found about it that is not accepted yet.
    """
    if not open_findings(reference.findings):
        raise UsageError(f"there is nothing to accept: no open finding about reference {reference.name!r}")
    said = {"who": who, "at": now.isoformat()}
    reference.findings = [
        finding if ACCEPTED in finding else finding | {ACCEPTED: said} for finding in reference.findings
    ]
    reference.warning = warning_of(reference.findings)
    session.add(Audit(at=now, who=who, action="keep_reference", detail=_detail(reference)))


def drop(session: Session, reference: ReferenceImage, who: str, now: datetime) -> None:
    """Note that a new revision goes on without this reference; the caller asks for it. Nothing is taken from this one.

    Raises:
        UsageError: it is the only one.
    """
    if len(reference.recipe.references) == 1:
        raise UsageError(f"{reference.name!r} is the only reference; teach the product from other pictures instead")
    session.add(Audit(at=now, who=who, action="drop_reference", detail=_detail(reference)))


def accepted_of(session: Session, product_id: int) -> Accepted:
    """What was accepted about pictures of a product in any revision, so that a new one does not ask again."""
    query = select(ReferenceImage).join(Recipe).where(Recipe.product_id == product_id).order_by(ReferenceImage.id)
    return {
        (reference.sha256, finding["kind"]): finding[ACCEPTED]
        for reference in session.scalars(query)
        for finding in reference.findings
        if ACCEPTED in finding
    }


def open_findings(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that nobody has accepted."""
    return [finding for finding in findings if ACCEPTED not in finding]


def warning_of(findings: list[dict[str, Any]]) -> str:
    """The open findings in words; empty if there are none."""
    return "; ".join(finding["reason"] for finding in open_findings(findings))


def _detail(reference: ReferenceImage) -> dict[str, Any]:
    recipe = reference.recipe
    return {
        "product": recipe.product.name,
        "rev": recipe.rev,
        "image": reference.name,
        "sha256": reference.sha256,
        "findings": [finding["kind"] for finding in reference.findings],
    }
