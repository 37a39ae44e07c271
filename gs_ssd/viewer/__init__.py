"""The offline page and the gallery."""
