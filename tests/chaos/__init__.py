"""The fault list on a whole line: real brokers, databases, cameras and processes, and a PLC that decides on each part.

`make chaos` runs all of it and prints a table; a short form is one of the tests.
"""
