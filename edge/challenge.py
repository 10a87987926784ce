"""One challenge: which known part a verdict belongs to, and whether all of them were judged as they must be. No thread.

May import the records of the core. A defect must be found by at least one camera, a good part accepted by all; what was
not scored, or not seen at all, has failed: a challenge that proves nothing must not pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from inspector.store.challenges import DEFECT, FAILED, GOOD, PASSED
from inspector.types import Verdict


@dataclass(frozen=True)
class Member:
    """A known part; `part` is the id it is triggered with, `path` its picture below the data folder."""

    id: int
    name: str
    expected: str
    kind: str = ""
    part: str = ""
    path: str | None = None


@dataclass(frozen=True)
class Seen:
    """One verdict of a known part."""

    camera: str
    verdict: Verdict
    seq: int
    score: float | None = None


@dataclass(eq=False)
class Challenge:
    """What was seen so far of the members of a set, by each camera."""

    number: int
    members: Sequence[Member]
    cameras: Sequence[str]
    extra: int = 0
    """Parts that belong to no member: more came than the set has."""
    _waiting: dict[str, list[Member]] = field(default_factory=dict)
    _seen: dict[int, list[Seen]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._waiting = {camera: list(self.members) for camera in self.cameras}
        self._seen = {member.id: [] for member in self.members}

    def take(self, part_id: str, seen: Seen) -> Member | None:
        """A verdict of a challenge part: by the part's id where a member has that id, else in turn. None: one too many."""
        waiting = self._waiting.get(seen.camera, [])
        named = [member for member in waiting if part_id and member.part == part_id]
        in_turn = [member for member in waiting if not part_id or not member.part]
        found = next(iter(named or in_turn), None)
        if found is None:
            self.extra += 1
            return None
        self.book(found, seen)
        return found

    def book(self, member: Member, seen: Seen) -> None:
        """A verdict of this very member; a second one by the same camera does not count."""
        waiting = self._waiting.get(seen.camera, [])
        if member in waiting:
            waiting.remove(member)
            self._seen[member.id].append(seen)

    def has_seen(self, member: Member) -> bool:
        """Whether any camera has had its verdict of this member."""
        return bool(self._seen[member.id])

    @property
    def complete(self) -> bool:
        """Whether each camera has seen each member."""
        return not any(self._waiting.values())

    @property
    def untouched(self) -> bool:
        """Whether no member was seen at all."""
        return not any(self._seen.values())

    def outcome(self) -> tuple[str, str, list[dict[str, Any]]]:
        """Passed or failed, why, and a record for each member."""
        faults = {member.id: self._fault(member) for member in self.members}
        records = [
            {
                "member": member.id,
                "name": member.name,
                "expected": member.expected,
                "kind": member.kind,
                "fault": faults[member.id],
                "seen": [
                    {"camera": seen.camera, "verdict": int(seen.verdict), "seq": seen.seq, "score": seen.score}
                    for seen in self._seen[member.id]
                ],
            }
            for member in self.members
        ]
        wrong = [f"{member.name}: {faults[member.id]}" for member in self.members if faults[member.id]]
        return (FAILED, "; ".join(wrong), records) if wrong else (PASSED, "", records)

    def _fault(self, member: Member) -> str:
        """What is wrong with how a member was judged; empty: nothing."""
        verdicts = [seen.verdict for seen in self._seen[member.id]]
        if len(verdicts) < len(self.cameras):
            return f"seen by {len(verdicts)} of {len(self.cameras)} cameras" if verdicts else "not seen"
        if Verdict.NONE in verdicts:
            return "not scored"
        if member.expected == GOOD and any(verdict is not Verdict.OK for verdict in verdicts):
            return "a good part that was rejected"
        if member.expected == DEFECT and all(verdict is Verdict.OK for verdict in verdicts):
            return "a defect that was accepted"
        return ""
