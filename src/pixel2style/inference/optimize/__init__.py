"""Rows fitted to one picture."""
