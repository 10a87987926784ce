# make demo   a line being inspected, on this machine, from nothing
# make test   everything that CI runs
# make chaos  the fault list on whole lines, about 25 minutes; make soak: one line for half an hour with random faults
# make check  style, types, import rules and documentation

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo test chaos soak check setup setup-dev system clean
help:
	@sed -n '1,4s/^# //p' Makefile

demo: setup
	$(BIN)/inspector demo

test: system check
	$(BIN)/python -m pytest

chaos: system setup-dev
	$(BIN)/python -m tests.chaos $(CHAOS)

soak: system setup-dev
	$(BIN)/python -m tests.chaos.soak $(SOAK)

check: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_docs.py

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is older or missing. Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -q && apt-get install -yq python3-venv && $(PYTHON) -m venv $(VENV); \
	  else echo "Python's venv is missing. Install it: sudo apt-get install python3-venv"; exit 2; fi; }

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/bin/python
	@echo "Installing into $(VENV); the first time this takes some minutes (torch is large)."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@for extra in genicam harvesters; do \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$$extra]" >/dev/null 2>&1 || \
	    echo "The extra '$$extra' cannot be installed here; the tests that need it are skipped (README, Cameras)."; \
	done
	@touch $@

# Real servers, cameras in software and a real browser for the tests; without root they must be there already, or their tests say why they are skipped.
system:
	@missing=""; \
	  { command -v mosquitto || [ -x /usr/sbin/mosquitto ]; } >/dev/null || missing="$$missing mosquitto"; \
	  ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$$missing postgresql"; \
	  command -v openssl >/dev/null || missing="$$missing openssl"; \
	  command -v chromium >/dev/null || missing="$$missing chromium"; \
	  command -v arv-fake-gv-camera-0.8 >/dev/null || missing="$$missing aravis-tools gir1.2-aravis-0.8"; \
	  ls /usr/lib/*/girepository-1.0/GstRtspServer-1.0.typelib >/dev/null 2>&1 || \
	    missing="$$missing gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good python3-gi"; \
	  ls /usr/include/gobject-introspection-1.0 /usr/include/cairo >/dev/null 2>&1 || \
	    missing="$$missing libgirepository1.0-dev libcairo2-dev pkg-config gcc"; \
	  if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	      echo "Installing for the tests:$$missing"; \
	      apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $$missing >/dev/null; \
	    else echo "Some tests will be skipped. To run them all: sudo apt-get install$$missing"; fi; \
	  fi

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
