"""The interface acceptance test: a station that is played, a PLC under test, faults, and a report. Never reaches torch."""
