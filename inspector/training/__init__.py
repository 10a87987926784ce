"""Offline training of the embedded encoder (and, later, of adapters); the line never imports this room."""
