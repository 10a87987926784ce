"""The outbox as the publisher wants it: rows of this station, read and deleted. May import the store and the lanes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from edge.lanes import OutboxMessage
from inspector.store import journal
from inspector.store.writer import StoreWriter


@dataclass(frozen=True, eq=False)
class StationOutbox:
    """Rows that the broker has not acknowledged."""

    writer: StoreWriter
    station_id: int

    def pending(self, limit: int) -> Sequence[OutboxMessage]:
        """The oldest rows, oldest first; none of a verdict that the PLC may have heard otherwise. Raises StoreError."""
        in_doubt = self.writer.in_doubt  # as it was before: what is put right meanwhile is read as it was
        with self.writer.store.read() as session:
            rows = journal.pending_outbox(session, self.station_id, limit)
        in_doubt = in_doubt | self.writer.in_doubt
        return [OutboxMessage(row.id, row.topic, row.payload) for row, verdict in rows if verdict not in in_doubt]

    def clear(self, ids: Sequence[int]) -> None:
        """Delete rows. Raises StoreError."""
        self.writer.call(partial(journal.clear_outbox, ids=ids))
