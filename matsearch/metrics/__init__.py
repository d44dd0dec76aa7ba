"""Rates, their denominators and intervals."""

from matsearch.metrics.discovery import summarise, wilson_interval

__all__ = ["summarise", "wilson_interval"]
