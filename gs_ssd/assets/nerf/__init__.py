"""Floor 2: a neural radiance field: density and colour on a hash grid, marched and composited."""
