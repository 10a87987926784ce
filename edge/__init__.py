"""The edge worker: one process per station, from the camera to the PLC."""

import os

# Scoring and building share the cores: a thread of OpenMP that spins while it waits would stall the other.
# It must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
