"""LLM backends: a prompt in, a completion out."""
