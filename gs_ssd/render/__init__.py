"""Gaussians and cameras in, pictures out."""
