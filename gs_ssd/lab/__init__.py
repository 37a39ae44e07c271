"""Everything that makes and measures, and that no run needs: the procedural world, the bundled
prior's training, the benchmark and the paper's experiments. Nothing of the product imports it."""
