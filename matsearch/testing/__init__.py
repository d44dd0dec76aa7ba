"""Contract suites for potentials, LLM backends and objectives, for plug-ins too."""
