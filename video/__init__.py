"""Videos: metrics; this version has no video methods."""
