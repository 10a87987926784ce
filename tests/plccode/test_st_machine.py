"""The interpreter itself: what it computes, and that it refuses what PLC tools would do differently or silently."""

from typing import Any

import pytest

from tests.plccode.st_machine import Program, StFaultError
from tests.plccode.st_syntax import StError


def run(declarations: str, body: str, **inputs: Any) -> dict[str, Any]:
    program = Program(f"FUNCTION_BLOCK Probe\n{declarations}\n{body}\nEND_FUNCTION_BLOCK\n")
    memory = program.instance("Probe") | inputs
    program.call("Probe", memory)
    return memory


@pytest.mark.parametrize(
    ("expression", "x", "value"),
    [
        ("X + 3 * X", 2, 8), ("(X + 3) * X", 2, 10), ("X / 2", 7, 3), ("X / 2", -7, -3), ("X MOD 3", -7, -1),
        ("X - 3 - 2", 10, 5), ("INT#5 + 16#0F + X", 0, 20), ("-1 + X", 3, 2),
    ],
)  # fmt: skip
def test_whole_numbers_are_computed_as_the_standard_says(expression: str, x: int, value: int) -> None:
    assert run("VAR X : INT; Y : INT; END_VAR", f"Y := {expression};", X=x)["Y"] == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("TRUE OR TRUE AND FALSE", True), ("NOT FALSE AND FALSE", False), ("A = 1 OR A = 2", True), ("A > 1 XOR A > 2", True),
        ("(A = 1) = (A = 3)", True),
    ],
)  # fmt: skip
def test_logic_has_the_precedence_of_the_standard(expression: str, value: bool) -> None:
    assert run("VAR A : INT; B : BOOL; END_VAR", f"B := {expression};", A=2)["B"] is value


def test_case_for_exit_and_arrays_do_what_they_say() -> None:
    memory = run(
        "VAR Sum : INT; I : INT; A : ARRAY[1..4] OF INT := [1, 2, 3, 4]; END_VAR",
        "FOR I := 1 TO 4 DO CASE A[I] OF 1, 2: Sum := Sum + 10; 3: EXIT; ELSE Sum := 0; END_CASE; END_FOR;",
    )

    assert memory["Sum"] == 20


def test_a_loop_whose_end_lies_before_its_start_does_not_run() -> None:
    assert run("VAR N : INT; I : INT; END_VAR", "FOR I := 0 TO -1 DO N := N + 1; END_FOR;")["N"] == 0


def test_a_function_block_keeps_its_memory_and_writes_through_what_goes_in_and_out() -> None:
    program = Program(
        "TYPE Box : STRUCT Value : INT; END_STRUCT END_TYPE",
        "FUNCTION_BLOCK Counting VAR_IN_OUT Target : Box; END_VAR VAR_OUTPUT Calls : INT; END_VAR "
        "Calls := Calls + 1; Target.Value := Calls * 2; END_FUNCTION_BLOCK",
        "FUNCTION_BLOCK Outer VAR Inner : Counting; Mine : Box; Copy : Box; END_VAR VAR_OUTPUT Calls : INT; END_VAR "
        "Inner(Target := Mine); Copy := Mine; Inner(Target := Mine); Calls := Inner.Calls; END_FUNCTION_BLOCK",
    )
    memory = program.instance("Outer")
    program.call("Outer", memory)

    assert (memory["Calls"], memory["Mine"]["Value"], memory["Copy"]["Value"]) == (2, 4, 2)


def test_bits_keep_their_pattern_when_they_become_a_number_with_a_sign() -> None:
    memory = run("VAR U : UDINT; D : DINT; END_VAR", "D := DWORD_TO_DINT(UDINT_TO_DWORD(U));", U=2**32 - 5)

    assert memory["D"] == -5


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ("U := U + 1;", {"U": 255}), ("U := U - 1;", {"U": 0}), ("A[I] := 1;", {"I": 3}), ("I := 1 / I;", {"I": 0}),
        ("U := UINT_TO_USINT(W);", {"W": 256}), ("FOR I := 0 TO 3 DO I := 2; END_FOR;", {}),
        ("IF (I < 2) AND (A[I] = 0) THEN I := 0; END_IF;", {"I": 2}),
    ],
)  # fmt: skip
def test_what_a_plc_would_do_silently_is_a_fault(body: str, inputs: dict[str, Any]) -> None:
    with pytest.raises(StFaultError, match="line"):
        run("VAR U : USINT; W : UINT; I : INT; A : ARRAY[0..1] OF USINT; END_VAR", body, **inputs)


@pytest.mark.parametrize(
    "body",
    [
        "U := W;", "B := U;", "U := 256;", "U := -1;", "B := 1;", "U := U + W;", "B := U AND U;", "X := 1;",
        "IF U THEN END_IF;",
        "WHILE B DO U := 1; END_WHILE;", "REPEAT U := 1; UNTIL B END_REPEAT;", "EXIT;", "A := 1;", "U := A;", "U[0] := 1;",
        "FOR U := 0 TO 3 DO END_FOR;", "B := Y < Y;", "In1 := 1;", "U := UINT_TO_USINT(U);", "B := NOT U;", "U := SIN(U);",
        "U := 1", "U = 1;", "U := U @ 1;", "Y := WORD_TO_BYTE(Z);",
    ],
)  # fmt: skip
def test_what_a_compiler_would_refuse_is_refused(body: str) -> None:
    with pytest.raises(StError):
        run(
            "VAR_INPUT In1 : INT; END_VAR "
            "VAR U : USINT; W : UINT; B : BOOL; Y : BYTE; Z : WORD; A : ARRAY[0..1] OF USINT; END_VAR",
            body,
        )


@pytest.mark.parametrize(
    "declarations", ["Step : INT;", "Limit : INT;", "A : INT; a : INT;", "A : LREAL;", "A : BYTE := 256;"]
)
def test_names_and_types_that_some_tool_refuses_are_refused(declarations: str) -> None:
    with pytest.raises(StError):
        run(f"VAR {declarations} END_VAR", "")
