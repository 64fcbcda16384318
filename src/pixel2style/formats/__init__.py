"""File formats: safetensors, PyTorch files, pickles, quantised tensors, and state dicts to fill networks with."""
