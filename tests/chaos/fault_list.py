"""The table's rows: each fault with its line."""

import signal

from tests.chaos import faults
from tests.chaos.faults import Fault, camera
from tests.chaos.gige import gige_faults
from tests.chaos.postgres import postgres_faults


def listed(kills: int, swaps: int) -> list[Fault]:
    """All faults; `kills` and `swaps` are how often those two strike."""
    return [
        *_processes(),
        *_broker(),
        *_database(),
        *postgres_faults(),
        *_camera(),
        *gige_faults(),
        *_time_and_load(swaps),
        _kills(kills),
    ]


def _processes() -> list[Fault]:
    return [
        Fault("kill -9 of the worker", "killed once", faults.signal_worker(signal.SIGKILL), short=True),
        Fault("hung scorer", "SIGSTOP of the whole worker", faults.signal_worker(signal.SIGSTOP)),
        Fault("kill -9 of the supervisor", "killed; the service manager starts it after 3 s", faults.kill_supervisor,
              faults.start_again, hold_s=3.0),
        Fault("kill -9 of the dashboard", "opened and killed", faults.kill_dashboard, stops=False),
        Fault("two workers", "a second one is started", faults.start_second_worker, stops=False),
    ]  # fmt: skip


def _broker() -> list[Fault]:
    return [
        Fault("broker killed", "kill -9, back after 6 s", faults.kill_broker, faults.restart_broker, short=True),
        Fault("broker down for long", "away for 60 s", faults.kill_broker, faults.restart_broker, hold_s=60.0),
        Fault("broker frozen", "SIGSTOP for 12 s", lambda plant: plant.line.broker.freeze(),
              lambda plant: plant.line.broker.thaw(), hold_s=12.0),
        Fault("broker refusing", "wants a login for 8 s", faults.refuse_at_broker, faults.let_in_again, hold_s=8.0),
        Fault("broker corrupt", "speaks no MQTT for 8 s", faults.speak_nonsense_at_broker, faults.end_nonsense,
              hold_s=8.0),
    ]  # fmt: skip


def _database() -> list[Fault]:
    return [
        Fault("database locked", "write lock held for 10 s", faults.lock_database, faults.put_right, hold_s=10.0),
        Fault("database down", "file deleted under the worker", faults.delete_database,
              before=faults.back_up),
        Fault("database corrupt", "overwritten with noise, then a start", faults.corrupt_database, faults.start_again,
              hold_s=0.0, before=faults.back_up),
        Fault("database of a newer schema", "revision 9999 at a start, put right after 10 s", faults.newer_schema,
              faults.older_schema, hold_s=10.0),
        Fault("disk full", "filled to the last byte for 15 s", faults.fill_disk, faults.free_disk, hold_s=15.0,
              stops=False, prepare=faults.small_disk),
        Fault("corrupt bank", "a bit turned, then that product is selected", faults.corrupt_bank, faults.select_flange),
    ]  # fmt: skip


def _camera() -> list[Fault]:
    share = "{:.0%} of the parts".format
    return [
        Fault(f"camera: {name}", share(rate), faults.nothing, stops=False, hold_s=20.0, short=name == "black",
              values=camera(faults={name: rate}, **more))
        for name, rate, more in (
            ("frozen", 0.1, {}), ("black", 0.1, {}), ("bad", 0.1, {}), ("missed", 0.1, {}),
            ("timeout", 0.05, {"timeout_s": 0.5}), ("lost", 0.03, {}),
            ("hang", 0.01, {"isolate": True, "timeout_s": 1.0}),
        )
    ]  # fmt: skip


def _time_and_load(swaps: int) -> list[Fault]:
    jumps = {"+1 h": 3600, "-1 h": -3600, "+10 years": 315_360_000, "-10 years": -315_360_000}
    return [
        *(
            Fault(f"clock jump {name}", "the line's wall clock alone", faults.set_clock(shift_s), stops=False,
                  hold_s=8.0, prepare=faults.own_clock)
            for name, shift_s in jumps.items()
        ),
        Fault("PLC counter reset", "the PLC starts anew at 1", faults.reset_counter, stops=False),
        Fault("long absence", "9,000 parts passed by unseen", faults.pass_by_unseen(9000), stops=False),
        Fault("three times the rate", "for 20 s", faults.hurry(3.0), faults.hurry(1 / 3), hold_s=20.0, stops=False),
        Fault("product swap in mid-batch", f"{swaps} changes under load", faults.swap(swaps), stops=False, hold_s=1.0,
              period_s=0.06, short=True),
    ]  # fmt: skip


def _kills(kills: int) -> Fault:
    return Fault("random kills", f"kill -9 of the worker at {kills} random moments", faults.random_kills(kills), hold_s=1.0,
                 stops=False, supervised=False)  # fmt: skip
