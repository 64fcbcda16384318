"""Bytes to tensors: containers, pickles, metadata and quantised weights. Nothing here knows a network."""
