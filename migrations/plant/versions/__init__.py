"""One file per schema revision of the central database."""
