"""Gates with one broken rule each: what is changed in the generated structured text."""

from inspector.contract.plccode.generator import generate
from tests.plccode.st_machine import Program

MUTANTS = {
    "ignores boot": ("HasBoot AND (Verdict.Boot = Boot)", "HasBoot"),
    "accepts a retained result": ("IF Message.Retained THEN", "IF FALSE THEN"),
    "takes a retained heartbeat": ("(Request = 5) AND (NOT Message.Retained)", "Request = 5"),
    "asks for no heartbeat": ("ELSIF NOT HeartbeatFresh THEN", "ELSIF FALSE THEN"),
    "waits four periods": ("StationHbp * 3", "StationHbp * 4"),
    "has no timer of its own": ("IF (AgeMs > TimeoutMs) OR (Request = 7)", "IF Request = 7"),
    "takes an older seq": ("Newer := (Distance > 0) AND (Distance < UDINT#2147483648)", "Newer := TRUE"),
    "cannot wrap seq": ("Distance := UDINT#4294967295 - (LastSeq - Verdict.Seq)", "Distance := 0"),
    "forgets duplicates": ("IF Known THEN", "IF FALSE THEN"),
    "ignores err": ("ELSIF Verdict.Err <> 0 THEN", "ELSIF FALSE THEN"),
    "ignores flags": ("ELSIF (Verdict.Flg AND Blocking) <> 16#0000 THEN", "ELSIF FALSE THEN"),
    "passes UNDECIDED": ("ELSIF Verdict.Res <> 1 THEN", "ELSIF (Verdict.Res <> 1) AND (Verdict.Res <> 3) THEN"),
    "ignores the wanted product": ("ELSIF Verdict.Rcp <> WantedRcp THEN", "ELSIF FALSE THEN"),
    "ignores the station's state": ("ELSIF (StationSt <> 5)", "ELSIF FALSE AND (StationSt <> 5)"),
    "takes any trigger": ("(OpenTrg[Slot] = Verdict.Trg)", "TRUE"),
    "believes an old will": ("IF (NOT Newer) AND (HeartbeatFresh OR", "IF FALSE AND (HeartbeatFresh OR"),
    "keeps seq over a boot": ("HasSeq := FALSE;", "HasSeq := HasSeq;"),
    "keeps what it knew when the connection goes": ("HasState := FALSE;", "HasState := HasState;"),
}
READS_AN_OK_WITH_AN_ERROR = (
    "IF (Verdict.Err <> 0) AND (Verdict.Res <> 0) AND (Verdict.Res <> 2) THEN",
    "IF FALSE THEN",
)
"""In the reader, not in the gate: both refuse an OK with an error."""


def broken(*changes: tuple[str, str]) -> Program:
    """The generated program with these changes, each of which must have a place in it."""
    text = "\n".join(generate("st").values())
    for sound, wrong in changes:
        assert sound in text
        text = text.replace(sound, wrong)
    return Program(text)
