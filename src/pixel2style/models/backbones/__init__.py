"""Trunks of encoders, some of them also identity networks."""
