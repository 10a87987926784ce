"""Makes a stored recipe ready to inspect: loaded, checked, warm and self-tested, beside the running one.

May import the store, `inspector.recipes` and `state`. Only what comes out of here can become the active recipe.
"""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.orm import joinedload

from edge.scorer import self_test
from edge.state import ActiveRecipe
from inspector.detection.encoder import Encoder
from inspector.errors import NotFoundError
from inspector.recipes import load_detector
from inspector.store.engine import Store
from inspector.store.schema import Recipe


def prepare_recipe(store: Store, data_path: Path, recipe_id: int, encoder: Encoder, max_batch: int) -> ActiveRecipe:
    """Load a ready recipe.

    Raises:
        InspectorError: it is not there, not ready, damaged, of another encoder, or fails its self-test.
    """
    with store.read() as session:
        recipe = session.get(Recipe, recipe_id, options=[joinedload(Recipe.product)])
    if recipe is None:
        raise NotFoundError(f"there is no recipe {recipe_id}")
    active = ActiveRecipe(
        recipe_id=recipe.id,
        rcp=recipe.product.rcp,
        rev=recipe.rev,
        name=recipe.product.name,
        bank_sha256=recipe.bank_sha256 or "",
        since=datetime.now(UTC),
        detector=load_detector(data_path, recipe, encoder),
    )
    self_test(active, max_batch)
    return active
