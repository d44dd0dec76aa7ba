"""Known phases and the hull they span, for each potential."""
