"""The run store: everything that happened, as rows."""
