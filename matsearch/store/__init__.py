"""The run store: everything that happened, as rows."""

from matsearch.store.runs import DATABASE, RunStore, continue_command, is_run_dir

__all__ = ["DATABASE", "RunStore", "continue_command", "is_run_dir"]
