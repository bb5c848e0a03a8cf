"""Time: methods for videos will live here. This version has none."""
