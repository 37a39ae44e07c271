"""Cameras, viewpoints, the raw Gaussian parameters and their optimizers."""
