"""The evolutionary search: ask and tell. Knows neither torch nor an LLM."""
