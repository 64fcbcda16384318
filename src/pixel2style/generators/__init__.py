"""Generators: rows of W+ to pictures. One folder each."""
