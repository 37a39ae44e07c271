"""What a run leaves in its folder and says while it runs: checkpoints, metrics, pictures, results,
provenance."""
