"""The product change: find the recipe, load and warm its bank, and put it in place between two batches."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path

from edge.state import ActiveRecipe, StationControl
from inspector import recipes
from inspector.contract.codes import AckCode
from inspector.detection.encoder import Encoder
from inspector.errors import BankError, ImageError, InspectorError
from inspector.images import read_image
from inspector.store import products, stations
from inspector.store.schema import Recipe
from inspector.store.writer import StoreWriter

log = logging.getLogger(__name__)


class RecipeSwap:
    """Loads recipes for one station; used by one thread at a time."""

    def __init__(
        self,
        writer: StoreWriter,
        data_path: Path,
        station_id: int,
        encoder: Encoder,
        control: StationControl,
        warm_batch: int,
    ) -> None:
        self._writer = writer
        self._data_path = data_path
        self._station_id = station_id
        self._encoder = encoder
        self._control = control
        self._warm_batch = warm_batch

    def restore(self) -> None:
        """Make the recipe active that was active before the worker started; without one the station waits for it."""
        with self._writer.store.read() as session:
            recipe = stations.active_recipe(session, self._station_id)
            active = None
            if recipe is not None:
                try:
                    active = self._load(recipe)
                except (BankError, ImageError) as error:
                    log.error("the active recipe cannot be used: %s", error)
        self._control.ready(active)

    def select(self, rcp: int, rev: int | None, who: str, *, before: Callable[[], None]) -> AckCode:
        """Change the product; from the first moment until it is done, parts get NONE. `before` tells the PLC so."""
        with self._writer.store.read() as session:
            recipe = products.find_recipe(session, rcp, rev)
            if recipe is None:
                return AckCode.UNKNOWN_RECIPE
            self._control.prepare()
            before()
            try:
                active = self._load(recipe)
            except (BankError, ImageError) as error:
                log.error("product %d cannot be prepared: %s", rcp, error)
                self._control.abandon()
                return AckCode.PREPARE_FAILED
        try:
            now = datetime.now(UTC)
            self._writer.call(
                lambda session: stations.set_active_recipe(session, self._station_id, active.recipe_id, who, now)
            )
        except InspectorError:
            self._control.abandon()
            raise
        self._control.ready(active)
        log.info("product %s (rcp %d, rev %d) is active", active.name, active.rcp, active.rev)
        return AckCode.DONE

    def _load(self, recipe: Recipe) -> ActiveRecipe:
        """Load, warm up and test on a reference of its own: what does not score that finitely scores nothing."""
        detector = recipes.load_detector(self._data_path, recipe, self._encoder)
        detector.warm_up(self._warm_batch)
        golden = read_image(self._data_path / recipe.references[0].path)
        if not isfinite(detector.inspect([golden])[0].score):
            raise BankError(f"the self-test of {recipe.product.name} rev {recipe.rev} gave no finite score")
        return ActiveRecipe(
            recipe_id=recipe.id,
            rcp=recipe.product.rcp,
            rev=recipe.rev,
            name=recipe.product.name,
            sha256=recipe.bank_sha256 or "",
            since=int(time.time()),
            detector=detector,
        )
