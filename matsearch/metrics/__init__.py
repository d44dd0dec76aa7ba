"""Rates, their denominators and intervals."""
