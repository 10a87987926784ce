"""The file of who may log in to the pages: no password in it, whole or not written, and nobody let in by a wrong one."""

import stat
import unicodedata
from pathlib import Path

import pytest
import yaml

from inspector.config import load_config
from inspector.errors import ConfigError, UsageError
from inspector.users import Role, is_password_of, put_user, read_users, remove_user

SECRET = "a long enough secret"  # noqa: S105 - of nobody


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "users.yaml"


def test_without_a_file_there_are_no_users(path: Path) -> None:
    assert read_users(path) == {}


def test_the_file_is_the_owners_and_holds_a_hash_instead_of_the_password(path: Path) -> None:
    put_user(path, "anna", Role.OPERATOR, SECRET)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SECRET not in path.read_text(encoding="utf-8")
    (entry,) = yaml.safe_load(path.read_text(encoding="utf-8"))["users"]
    assert (entry["name"], entry["role"]) == ("anna", "operator")
    assert entry["password"].startswith("$argon2id$")


def test_only_the_right_password_fits_and_nobody_has_one(path: Path) -> None:
    put_user(path, "anna", Role.OPERATOR, SECRET)
    anna = read_users(path)["anna"]

    assert is_password_of(anna, SECRET)
    assert not is_password_of(anna, SECRET + " ")
    assert not is_password_of(anna, "")
    assert not is_password_of(None, SECRET)


def test_two_people_with_one_password_have_two_hashes(path: Path) -> None:
    for name in ("anna", "ben"):
        put_user(path, name, Role.VIEWER, SECRET)

    anna, ben = read_users(path).values()
    assert anna.password != ben.password


def test_a_name_that_is_taken_is_changed_only_on_purpose(path: Path) -> None:
    put_user(path, "anna", Role.OPERATOR, SECRET)

    with pytest.raises(UsageError, match="there is a user 'anna' already; --replace"):
        put_user(path, "anna", Role.ENGINEER, SECRET)
    with pytest.raises(UsageError, match="there is no user 'ben'"):
        put_user(path, "ben", Role.ENGINEER, SECRET, replace=True)
    put_user(path, "anna", Role.ENGINEER, "another long secret", replace=True)
    (anna,) = read_users(path).values()
    assert anna.role is Role.ENGINEER
    assert is_password_of(anna, "another long secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_user_is_removed_and_who_is_not_there_cannot_be(path: Path) -> None:
    for name in ("anna", "ben"):
        put_user(path, name, Role.VIEWER, SECRET)

    assert remove_user(path, "anna") == 1
    with pytest.raises(UsageError, match="there is no user 'anna'"):
        remove_user(path, "anna")
    assert list(read_users(path)) == ["ben"]


def test_both_spellings_of_an_umlaut_are_one_name_and_one_password(path: Path) -> None:
    put_user(path, unicodedata.normalize("NFD", "Jürgen"), Role.VIEWER, unicodedata.normalize("NFD", "schlüssel-wort"))

    (user,) = read_users(path).values()
    assert user.name == "Jürgen"
    assert is_password_of(user, "schlüssel-wort")


@pytest.mark.parametrize("name", ["", " anna", "anna\n", "x" * 65, "dashboard", "PLC"])
def test_names_that_the_audit_could_mistake_are_refused(path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"expected the name of a person|printable characters"):
        put_user(path, name, Role.VIEWER, SECRET)
    assert not path.exists()


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_passwords_that_are_too_short_or_too_long_are_refused(path: Path, password: str) -> None:
    with pytest.raises(UsageError, match="8 to 256 characters"):
        put_user(path, "anna", Role.VIEWER, password)
    assert not path.exists()


def entry(**changes: object) -> str:
    user = {"name": "anna", "role": "viewer", "password": "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aGFzaA"} | changes
    return yaml.safe_dump({"users": [user]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("users: 3\n", "expected a list `users:`"),
        ("user: []\n", "expected a list `users:`"),
        ("{", "not valid YAML"),
        ("users: [anna]\n", "entry 1: expected name, role and password, but got 'str'"),
        ("users: [{name: anna}]\n", "entry 1: expected name, role and password, but got name"),
        (entry(role="boss"), "entry 1: role 'boss'; expected viewer, operator, engineer"),
        (entry(password="plain"), "entry 1: the password is no Argon2 hash"),  # noqa: S106
        (entry(name="plc"), "entry 1: 'plc' is what the audit calls a program"),
    ],
)
def test_a_file_that_is_not_understood_lets_nobody_in_and_says_why(path: Path, text: str, said: str) -> None:
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        read_users(path)


def test_a_name_that_stands_twice_is_refused(path: Path) -> None:
    put_user(path, "anna", Role.VIEWER, SECRET)
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({"users": values["users"] * 2}), encoding="utf-8")

    with pytest.raises(ConfigError, match="'anna' stands there twice"):
        read_users(path)


def test_a_write_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_user(path, "anna", Role.VIEWER, SECRET)
    before = path.read_bytes()

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device"):
        put_user(path, "ben", Role.VIEWER, SECRET)
    assert path.read_bytes() == before


def test_each_role_may_do_what_the_lower_ones_may() -> None:
    assert [[one.includes(other) for other in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_the_file_lies_in_the_data_folder_or_where_the_configuration_says(tmp_path: Path) -> None:
    config = tmp_path / "line1.yaml"
    config.write_text(f"data_dir: {tmp_path / 'data'}\n", encoding="utf-8")
    assert load_config(config).users_path == tmp_path / "data" / "users.yaml"
    config.write_text("dashboard: {users_file: people.yaml}\n", encoding="utf-8")
    assert load_config(config).users_path == tmp_path / "people.yaml"
