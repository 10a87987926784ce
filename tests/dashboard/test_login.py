"""The login in a real server: what is behind the doors, who gets in, and when a login is over."""

import http.client
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import yaml
from streamlit.proto.BackMsg_pb2 import BackMsg
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from inspector.contract.broker import free_port
from inspector.users import Role, put_user, remove_user
from tests.browser import served
from tests.dashboard import seed
from tests.dashboard.logins import PASSWORD
from tests.dashboard.seed import Scene

SLOW_MS = 30_000
HTML = {"Accept": "text/html,application/xhtml+xml"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def place(self) -> str:
        return self.headers.get("Location", "")


@dataclass(frozen=True)
class Server:
    """The pages of a line, and a browser that is none."""

    scene: Scene
    address: str

    def ask(self, path: str, *, body: str | None = None, cookie: str = "", **headers: str) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=60)
        sent = headers | ({"Cookie": cookie} if cookie else {})
        if body is not None:
            sent |= {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("GET" if body is None else "POST", path, body, sent)
        answer = connection.getresponse()
        found = Answer(answer.status, answer.headers, answer.read().decode("utf-8", "replace"))
        connection.close()
        return found

    def log_in(self, name: str, password: str = PASSWORD, onward: str = "/", **headers: str) -> Answer:
        return self.ask("/login", body=urlencode({"name": name, "password": password, "next": onward}), **headers)

    def cookie(self, name: str) -> str:
        """What a browser keeps after a login."""
        return str(self.log_in(name).headers["Set-Cookie"]).split(";", maxsplit=1)[0]

    def tab(self, cookie: str = "") -> ClientConnection:
        address = self.address.replace("http://", "ws://")
        headers = {"Cookie": cookie} if cookie else {}
        return connect(
            f"{address}/_stcore/stream", subprotocols=["streamlit"], additional_headers=headers, max_size=None
        )  # type: ignore[list-item]

    def user(self, name: str, role: Role) -> None:
        put_user(self.scene.config.users_path, name, role, PASSWORD)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("line")
    scene = seed.busy(folder, parts=30, pictures=6, port=free_port())
    put_user(scene.config.users_path, "anna", Role.OPERATOR, PASSWORD)
    with served(scene.config, scene.config_path, folder / "dashboard.log") as address:
        yield Server(scene, address)
    scene.store.close()


@pytest.mark.parametrize("page", ["/", "/products", "/history?part=5", "/health"])
def test_a_page_leads_to_the_login_and_from_there_back(server: Server, page: str) -> None:
    away = server.ask(page, **HTML)
    assert away.status == 303
    form = server.ask(away.place, **HTML)
    assert form.status == 200
    onward = re.search(r'name="next" value="([^"]*)"', form.text)
    assert onward is not None
    assert onward[1] == page
    assert server.log_in("anna", onward=page).place == page


@pytest.mark.parametrize(
    "path",
    ["/static/js/index.js", "/media/abc.jpg", "/_stcore/host-config", "/component/x/y.js", "/health"],
)
def test_nothing_else_comes_out_without_a_login(server: Server, path: str) -> None:
    assert server.ask(path).status == 401
    assert server.ask("/_stcore/upload_file/a/b", body="x").status == 401


def test_no_tab_is_connected_without_a_login(server: Server) -> None:
    for cookie in ("", f"inspector-{server.scene.config.dashboard.port}=invented"):
        with pytest.raises(InvalidStatus) as refused:
            server.tab(cookie)
        assert refused.value.response.status_code == 403
    with server.tab(server.cookie("anna")) as tab:
        assert tab.subprotocol == "streamlit"


def test_the_sign_of_life_needs_no_login(server: Server) -> None:
    assert server.ask("/_stcore/health").status == 200


def test_pictures_come_to_who_is_logged_in_and_to_nobody_else(server: Server) -> None:
    cookie = server.cookie("anna")
    with server.tab(cookie) as tab:
        page = BackMsg()
        page.rerun_script.page_name = "review"
        tab.send(page.SerializeToString())
        found = None
        while found is None:
            found = re.search(rb"/media/[0-9a-f]+\.jpe?g", bytes(tab.recv(60)))  # type: ignore[arg-type]
        picture = found[0].decode()

        assert server.ask(picture, cookie=cookie).status == 200
        assert server.ask(picture).status == 401


def test_a_wrong_name_and_a_wrong_password_are_told_in_the_same_words(server: Server) -> None:
    answers = [server.log_in("anna", "wrong"), server.log_in("nobody-here", PASSWORD)]

    assert [answer.status for answer in answers] == [401, 401]
    assert answers[0].text == answers[1].text
    assert "The name or the password is wrong." in answers[0].text
    assert "Set-Cookie" not in answers[0].headers
    server.log_in("anna")


def test_guessing_takes_longer_each_time_in_whichever_tab(server: Server) -> None:
    server.user("guessed", Role.VIEWER)
    answers = [server.log_in("guessed", f"wrong {number}") for number in range(3)]

    assert [answer.status for answer in answers] == [401, 401, 429]
    assert "The next try counts in 2 s." in answers[2].text
    paused = server.log_in("guessed")
    assert (paused.status, paused.headers["Set-Cookie"]) == (429, None)
    assert server.log_in("anna").status == 303


def test_the_cookie_is_kept_from_scripts_and_other_sites(server: Server) -> None:
    cookie = server.log_in("anna").headers["Set-Cookie"].lower()

    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert PASSWORD not in cookie


@pytest.mark.parametrize(
    "onward", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere", "live", "/login"]
)
def test_a_login_leads_to_no_other_site(server: Server, onward: str) -> None:
    assert server.log_in("anna", onward=onward).place == "/"


def test_no_other_site_may_send_the_form(server: Server) -> None:
    refused = server.log_in("anna", Origin="http://elsewhere.example")

    assert (refused.status, refused.headers["Set-Cookie"]) == (403, None)
    assert server.log_in("anna", Origin=server.address).status == 303


def test_a_form_that_cannot_be_ours_is_refused(server: Server) -> None:
    assert server.log_in("anna", "x" * 100_000).status == 401
    assert server.log_in("<script>alert(1)</script>", "wrong", onward='/"><script>').text.count("<script>") == 0


def test_who_is_removed_is_out_at_the_next_request(server: Server) -> None:
    server.user("fired", Role.ENGINEER)
    cookie = server.cookie("fired")
    assert server.ask("/", cookie=cookie, **HTML).status == 200

    remove_user(server.scene.config.users_path, "fired")

    assert server.ask("/", cookie=cookie, **HTML).status == 303
    assert server.ask("/media/abc.jpg", cookie=cookie).status == 401


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """A browser of its own, in which no script may fail."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    faults: list[str] = []
    context.on("page", lambda tab: tab.on("pageerror", lambda error: faults.append(str(error))))
    context.set_default_timeout(SLOW_MS)
    yield context
    context.close()
    assert faults == []


def fill_in(page: Any, name: str, password: str = PASSWORD) -> None:
    """As people do: the name, Tab, the password, Enter."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Name").press("Tab")
    page.keyboard.type(password)
    page.keyboard.press("Enter")


def test_who_logs_in_by_enter_sees_the_page_and_their_name_and_logs_out_everywhere(
    server: Server, browser: Any
) -> None:
    server.user("paula", Role.OPERATOR)
    page = browser.new_page()
    page.goto(f"{server.address}/products")
    fill_in(page, "paula", "wrong")
    page.get_by_role("alert").get_by_text("The name or the password is wrong.").wait_for()
    fill_in(page, "paula")
    page.locator(".vi-person", has_text="paula · operator").wait_for()
    page.get_by_role("button", name="Teach a product").wait_for()
    other = browser.new_page()
    other.goto(f"{server.address}/history")
    other.get_by_role("button", name="Download CSV").wait_for()

    page.get_by_role("button", name="Log out").click()

    page.get_by_label("Password").wait_for()
    other.get_by_label("Password").wait_for()  # by itself: the page looks each two seconds
    page.goto(f"{server.address}/health")
    page.get_by_label("Password").wait_for()


def test_a_link_to_a_part_keeps_the_login(server: Server, browser: Any) -> None:
    page = browser.new_page()
    page.goto(server.address)
    fill_in(page, "anna")
    page.locator(".vi-strip a").nth(2).click()

    page.locator(".vi-verdict").wait_for()


def test_an_open_tab_of_a_removed_user_shows_the_login(server: Server, browser: Any) -> None:
    server.user("leaver", Role.OPERATOR)
    page = browser.new_page()
    page.goto(server.address)
    fill_in(page, "leaver")
    page.locator(".vi-banner").wait_for()

    remove_user(server.scene.config.users_path, "leaver")

    page.get_by_label("Password").wait_for()


def test_a_tab_that_nobody_uses_is_logged_out_although_it_renews_itself(tmp_path: Path, browser: Any) -> None:
    scene = seed.busy(tmp_path, parts=20, pictures=2, port=free_port())
    put_user(scene.config.users_path, "anna", Role.OPERATOR, PASSWORD)
    with served(scene.config, scene.config_path, tmp_path / "dashboard.log") as address:
        page = browser.new_page()
        page.goto(address)
        fill_in(page, "anna")
        page.locator(".vi-banner").wait_for()
        values = yaml.safe_load(scene.config_path.read_text(encoding="utf-8"))
        values["dashboard"]["session_h"] = 4 / 3600
        scene.config_path.write_text(yaml.safe_dump(values), encoding="utf-8")

        page.get_by_label("Password").wait_for()
    scene.store.close()


def test_a_viewer_sees_each_page_and_can_press_nothing_that_changes_the_line(server: Server, browser: Any) -> None:
    server.user("vera", Role.VIEWER)
    seed.alive(server.scene)
    page = browser.new_page()
    page.goto(server.address)
    fill_in(page, "vera")
    page.get_by_role("button", name="Stop").wait_for()
    assert page.get_by_role("button", name="Stop").is_disabled()
    for name in ("Products", "Review", "Study", "Health", "History"):
        page.get_by_role("link", name=name).click()
        page.locator(".vi-person", has_text="vera · viewer").wait_for()
    page.get_by_role("link", name="Review").click()
    good = page.get_by_role("button", name="Good")
    good.wait_for()
    assert good.is_disabled()
