"""How the pages are started, and what is said when they cannot be."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import dashboard
from dashboard.launch import address, check_access, check_port, command, settings
from inspector.config import Config, DashboardConfig, load_config
from inspector.contract.broker import free_port
from inspector.errors import ConfigError, UsageError
from inspector.users import Role, put_user
from tests.browser import served


def config(host: str = "127.0.0.1", port: int = 8501) -> Config:
    return Config(dashboard=DashboardConfig(host=host, port=port))


def test_the_pages_are_bound_to_this_machine_without_telemetry_and_with_cross_site_protection() -> None:
    given = settings(Config())

    assert {
        "server.address": "127.0.0.1",
        "server.port": 8501,
        "server.headless": True,
        "server.enableXsrfProtection": True,
        "server.maxUploadSize": 64,
        "browser.gatherUsageStats": False,
        "client.showErrorDetails": "none",
    }.items() <= given.items()


def test_the_configuration_file_reaches_the_server() -> None:
    assert command(None) == [sys.executable, "-m", "dashboard.serve"]
    assert command(Path("line.yaml"))[3:] == ["--config", str(Path("line.yaml").absolute())]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_pages_end_without_a_fault_when_they_are_told_to(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(f"data_dir: {tmp_path}\ndashboard:\n  port: {free_port()}\n", encoding="utf-8")
    with served(load_config(path), path, tmp_path / "dashboard.log", ended_by=number):
        pass


def test_streamlit_takes_no_folder_of_ours_for_its_own_pages() -> None:
    assert not (Path(dashboard.__file__).parent / "pages").exists()


@pytest.mark.parametrize(
    ("host", "seen"),
    [("127.0.0.1", "http://127.0.0.1:8501"), ("0.0.0.0", "http://127.0.0.1:8501"), ("::1", "http://[::1]:8501")],  # noqa: S104
)
def test_the_address_is_one_that_a_browser_here_can_open(host: str, seen: str) -> None:
    assert address(config(host)) == seen


def test_a_port_in_use_is_one_sentence_and_exit_code_two(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} .* is in use"):
            check_port(config(port=port))
        path = tmp_path / "line.yaml"
        path.write_text(f"dashboard:\n  port: {port}\n", encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "dashboard", "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_of_another_machine_is_refused_with_what_to_set() -> None:
    with pytest.raises(UsageError, match=r"dashboard\.host"):
        check_port(config(host="192.0.2.1"))


def started(path: Path) -> subprocess.CompletedProcess[str]:
    """Start the pages, which end by themselves."""
    command = [sys.executable, "-m", "dashboard", "--config", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_network_reaches_no_pages_without_users_and_the_sentence_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text(f"data_dir: {tmp_path}\ndashboard:\n  host: 0.0.0.0\n", encoding="utf-8")
    done = started(path)

    assert done.returncode == 2
    assert "`inspector user add NAME --role engineer`" in done.stderr
    assert str(tmp_path / "users.yaml") in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_with_users_the_network_may_reach_the_pages_and_this_machine_needs_none(tmp_path: Path) -> None:
    everywhere = Config(data_dir=tmp_path, dashboard=DashboardConfig(host="0.0.0.0"))  # noqa: S104 - not bound
    check_access(Config(data_dir=tmp_path))
    with pytest.raises(ConfigError, match="opens the pages to the network"):
        check_access(everywhere)

    put_user(everywhere.users_path, "anna", Role.VIEWER, "a long enough secret")

    check_access(everywhere)


def test_a_file_of_users_that_is_not_understood_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "users.yaml").write_text("users: 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected a list `users:`"):
        check_access(Config(data_dir=tmp_path))


def test_a_wrong_configuration_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "line.yaml"
    path.write_text("dashboard:\n  prot: 1\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "dashboard", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "line.yaml:2: unknown key 'dashboard.prot'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_pages_import_neither_torch_nor_the_worker() -> None:
    script = (
        "import sys, dashboard.launch, dashboard.views.live, dashboard.views.products, dashboard.views.history\n"
        "bad = [name for name in sys.modules if name.split('.')[0] in ('torch', 'open_clip', 'edge')]\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
