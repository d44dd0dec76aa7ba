"""Contract suites for potentials, LLM backends and objectives, for plug-ins too."""

import pytest

# Failures of a suite show the values compared, as those of a test file do.
pytest.register_assert_rewrite("matsearch.testing.llm", "matsearch.testing.potential", "matsearch.testing.objective")
