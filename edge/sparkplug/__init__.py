"""The station as a Sparkplug edge node: a second connection, beside the verdict path and never on it."""
