"""Sparkplug B 3.0 for SCADA: payloads and the life of an edge node, without a socket, a thread or a clock."""
