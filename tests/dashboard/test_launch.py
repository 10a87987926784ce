"""How the pages are started, and what is said when they cannot be."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dashboard.launch import address, check_port, command
from inspector.config import Config, DashboardConfig
from inspector.errors import UsageError


def config(host: str = "127.0.0.1", port: int = 8501) -> Config:
    return Config(dashboard=DashboardConfig(host=host, port=port))


def test_the_pages_are_bound_to_this_machine_without_telemetry_and_with_cross_site_protection() -> None:
    arguments = command(Config(), None)

    assert arguments[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert Path(arguments[4]).name == "serve.py"
    for expected in (
        "--server.address=127.0.0.1",
        "--server.port=8501",
        "--server.headless=true",
        "--server.enableXsrfProtection=true",
        "--server.maxUploadSize=64",
        "--browser.gatherUsageStats=false",
        "--client.showErrorDetails=none",
    ):
        assert expected in arguments


def test_the_configuration_file_reaches_the_script() -> None:
    assert command(Config(), Path("line.yaml"))[-3:] == ["--", "--config", str(Path("line.yaml").absolute())]


def test_streamlit_takes_no_folder_of_ours_for_its_own_pages() -> None:
    assert not (Path(command(Config(), None)[4]).parent / "pages").exists()


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
