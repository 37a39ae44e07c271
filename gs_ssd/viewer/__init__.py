"""Floor 3: the offline page, the live view and the gallery."""
