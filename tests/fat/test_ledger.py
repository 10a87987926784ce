"""The books of the acceptance test: what counts as a bad part that was accepted."""

from inspector.contract.reports import Disposition
from inspector.fat.ledger import Ledger


def receipt(trg: int, acc: int, rsn: int = 1) -> Disposition:
    return Disposition(trg=trg, boot=0, seq=0, acc=acc, rsn=rsn)


def test_a_part_is_a_bad_one_until_a_fresh_ok_was_sent_for_it() -> None:
    ledger = Ledger()
    part = ledger.triggered(7)
    assert (part.good, part.accepted, part.decided_s) == (False, False, None)
    ledger.told(receipt(7, acc=1))
    assert part.accepted
    assert part.decided_s is not None


def test_a_part_that_is_let_through_without_a_trigger_is_counted() -> None:
    ledger = Ledger()
    ledger.fault = "duplicate"
    ledger.told(receipt(1, acc=1))
    ledger.told(receipt(2, acc=0))
    assert ledger.strangers("duplicate") == 1
    assert ledger.strangers("reordering") == 0


def test_the_same_receipt_twice_is_a_repetition_and_another_one_a_contradiction() -> None:
    ledger = Ledger()
    part = ledger.triggered(1)
    for _ in range(2):
        ledger.told(receipt(1, acc=0, rsn=2))
    assert not part.contradicted
    ledger.told(receipt(1, acc=1))
    assert part.contradicted
    assert part.accepted


def test_a_repeated_trigger_is_one_part_and_the_newest_unclaimed_one_is_given() -> None:
    ledger = Ledger()
    first = ledger.triggered(1)
    assert ledger.triggered(1) is first
    second = ledger.triggered(2)
    ledger.fault = "seq wrap"
    assert ledger.claim(1.0, youngest_s=60) is second
    assert ledger.claim(1.0, youngest_s=60) is first
    assert ledger.claim(0.0, youngest_s=60) is None
    assert ledger.parts("seq wrap") == [first, second]


def test_a_part_that_is_decided_already_or_too_old_is_not_given() -> None:
    ledger = Ledger()
    ledger.triggered(1)
    ledger.told(receipt(1, acc=0))
    ledger.triggered(2)
    assert ledger.claim(0.0, youngest_s=-1) is None
    part = ledger.claim(0.0, youngest_s=60)
    assert part is not None
    assert part.trg == 2
