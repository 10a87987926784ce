"""The edge worker: one process per station, from the camera to the PLC."""
