"""Faces in photographs: detection with landmarks, alignment as in FFHQ, head pose."""
