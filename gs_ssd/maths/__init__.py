"""Pure functions on tensors; no state, no devices, nothing of the project imported."""
