"""Reports: queries on the run store."""
