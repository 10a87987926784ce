"""The detection core: torch and open_clip live here; no camera, broker, database or web page does."""
