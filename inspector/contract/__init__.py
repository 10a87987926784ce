"""The contract with the PLC: topics and messages, one pydantic source for JSON, binary form and AsyncAPI."""
