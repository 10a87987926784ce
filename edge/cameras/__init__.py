"""Sources of frames behind one small protocol."""
