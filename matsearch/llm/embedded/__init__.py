"""The embedded model: weights, tokenizer and what decodes its text."""
