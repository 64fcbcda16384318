"""Edits of rows of W+."""
