"""Pickles that are read and never run."""
