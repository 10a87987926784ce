"""New revisions from what there is: the references of one, more pictures, another wish. The worker builds them."""

from collections.abc import Callable, Sequence
from itertools import chain

import streamlit as st

from dashboard.context import Dashboard, utc_now
from inspector.images import read_image
from inspector.store import products
from inspector.store.pictures import staged
from inspector.store.products import Wish
from inspector.store.stations import ensure_station
from inspector.types import ImageArray
from inspector.users import Role


def request(
    plant: Dashboard,
    product: str,
    more: Sequence[tuple[str, ImageArray]] = (),
    change: Callable[[Wish], Wish] = lambda wish: wish,
    *,
    rev: int | None = None,
    without: int | None = None,
) -> None:
    """Ask for a revision with the references of `rev` (else of the newest, built or not yet) and `more`.

    `change` is what is wished otherwise, `without` the id of a reference of it that is left out.

    Raises:
        AccessError: who is there may not ask for one.
        NotFoundError: there is no such product.
        UsageError: no picture at all, or more than a recipe holds.
    """
    permit = plant.require(Role.OPERATOR)
    with plant.store.read() as session:
        found = products.find_product(session, product)
        newest = products.newest_revision(session, found.id)
        base = newest if rev is None else products.find_recipe(session, found.rcp, rev)
        kept = [] if base is None else [(one.name, one.path) for one in base.references if one.id != without]
        wish = change(Wish() if base is None else products.wish_of(base))
    there = ((name, read_image(plant.data_path / path)) for name, path in kept)
    with staged(plant.data_path, chain(there, more)) as pictures, permit.write() as session:
        station = ensure_station(session, plant.station)
        fresh = products.request_recipe(
            session,
            product,
            pictures,
            station_id=station.id,
            who=permit.who,
            now=utc_now(),
            wish=wish,
        ).rev
    st.toast(f"{product}, revision {fresh} is being built; look at it on the Products page", icon=":material/build:")
