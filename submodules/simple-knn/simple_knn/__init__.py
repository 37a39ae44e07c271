"""Distances to the nearest neighbours of every point of a cloud, exact, on the CPU."""

from simple_knn.neighbours import mean_squared_distance

__all__ = ["mean_squared_distance"]
