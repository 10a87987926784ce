"""Data sets, metrics and reports: how good a configuration is, measured by the detector that runs on the line."""
