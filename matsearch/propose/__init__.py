"""From parents to prompts, and from replies to candidates."""
