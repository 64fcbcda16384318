"""Folders of results against folders of originals."""
