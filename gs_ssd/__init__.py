"""GS-SSD: a sentence becomes a 3D Gaussian splat, by Stable Score Distillation (arXiv 2312.09305).

Importing this package builds nothing, downloads nothing and touches no GPU.
"""

__version__ = "0.1.0"
