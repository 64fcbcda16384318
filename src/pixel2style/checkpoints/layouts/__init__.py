"""Layouts of other projects: pSp's family, NVIDIA's pickles, and what models are written in."""
