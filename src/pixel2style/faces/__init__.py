"""Faces in photographs: found, measured, cut out."""
