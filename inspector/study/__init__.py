"""Attribute agreement studies: from the stored answers to what they say, and to a report on paper. Never reaches torch."""
