"""A 3D Gaussian splat as an asset: parameters, optimizer, densification, regularizers, finish,
files."""
