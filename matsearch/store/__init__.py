"""The run store: everything that happened, as rows."""

from matsearch.store.runs import DATABASE, RunStore, is_run_dir

__all__ = ["DATABASE", "RunStore", "is_run_dir"]
