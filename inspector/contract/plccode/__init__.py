"""PLC programs made from the models: the verdict as a type, parsers of both forms, and the acceptance gate."""
