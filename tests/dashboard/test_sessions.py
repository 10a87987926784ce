"""Logins end, and guessing takes time: without a server and without waiting."""

import pytest

from dashboard import sessions
from dashboard.sessions import FREE_TRIES, LONGEST_PAUSE_S, Sessions, Tries
from inspector.users import HASHER, Role, User

IDLE_S = 3600.0
PASSWORD = "a long enough secret"  # noqa: S105 - of nobody
ANNA = User("anna", Role.OPERATOR, HASHER.hash(PASSWORD))
USERS = {"anna": ANNA}


def test_a_token_means_its_user_until_it_was_not_used_for_too_long() -> None:
    logins = Sessions()
    token = logins.open(ANNA, 0.0)

    assert logins.find(token, USERS, IDLE_S, 3000.0, used=True) == ANNA
    assert logins.find(token, USERS, IDLE_S, 6600.0, used=False) == ANNA  # 3600 s after the last use
    assert logins.find(token, USERS, IDLE_S, 6601.0, used=True) is None
    assert logins.find(token, USERS, IDLE_S, 3001.0, used=True) is None  # it is over for good


def test_a_page_that_only_renews_itself_keeps_no_login_alive() -> None:
    logins = Sessions()
    token = logins.open(ANNA, 0.0)

    for second in range(0, 3600, 60):
        assert logins.find(token, USERS, IDLE_S, float(second), used=False) == ANNA
    assert logins.find(token, USERS, IDLE_S, 3601.0, used=False) is None


def test_another_role_counts_at_once_and_a_removed_user_or_another_password_ends_the_login() -> None:
    logins = Sessions()
    engineer = User("anna", Role.ENGINEER, ANNA.password)
    token = logins.open(ANNA, 0.0)

    assert logins.find(token, {"anna": engineer}, IDLE_S, 1.0, used=False) == engineer
    assert logins.find(token, {}, IDLE_S, 2.0, used=False) is None
    assert logins.find(token, USERS, IDLE_S, 3.0, used=False) is None  # put back under the name: another login
    token = logins.open(ANNA, 4.0)
    assert logins.find(token, {"anna": User("anna", Role.OPERATOR, "other")}, IDLE_S, 5.0, used=False) is None


def test_logging_out_ends_the_login_and_an_invented_token_is_none() -> None:
    logins = Sessions()
    token = logins.open(ANNA, 0.0)
    logins.close(token)

    assert logins.find(token, USERS, IDLE_S, 1.0, used=False) is None
    assert logins.find("", USERS, IDLE_S, 1.0, used=False) is None


def test_the_longest_unused_login_goes_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    logins = Sessions()
    first, second = logins.open(ANNA, 0.0), logins.open(ANNA, 1.0)
    logins.find(first, USERS, IDLE_S, 2.0, used=True)
    logins.open(ANNA, 3.0)

    assert logins.find(first, USERS, IDLE_S, 4.0, used=False) == ANNA
    assert logins.find(second, USERS, IDLE_S, 4.0, used=False) is None


def test_pauses_grow_with_each_wrong_try_and_the_right_password_is_not_looked_at_meanwhile() -> None:
    tries, now_s, pauses = Tries(), 0.0, []
    for _ in range(FREE_TRIES + 10):
        user, pause_s = tries.check(USERS, "anna", "wrong", now_s)
        assert user is None
        pauses.append(pause_s)
        if pause_s:
            assert tries.check(USERS, "anna", PASSWORD, now_s + pause_s - 0.1)[0] is None
        now_s += pause_s

    assert pauses == [0.0, 0.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert tries.check(USERS, "anna", PASSWORD, now_s) == (ANNA, 0.0)
    assert tries.check(USERS, "anna", "wrong", now_s) == (None, 0.0)  # forgotten with the right one


def test_a_name_that_nobody_has_is_answered_like_any_other() -> None:
    tries = Tries()

    assert [tries.check(USERS, "eve", PASSWORD, 0.0) for _ in range(3)] == [(None, 0.0), (None, 0.0), (None, 2.0)]
    assert tries.check(USERS, "anna", PASSWORD, 0.0) == (ANNA, 0.0)  # others need not wait
