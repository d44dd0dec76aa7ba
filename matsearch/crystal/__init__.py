"""Crystals as text, checked and identified."""
