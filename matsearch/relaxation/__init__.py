"""Structures relaxed by a potential."""
