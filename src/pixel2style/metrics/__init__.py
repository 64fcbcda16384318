"""Metrics: similarity of two images or two sets of images, and the losses built from them."""
