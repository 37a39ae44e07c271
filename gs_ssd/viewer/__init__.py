"""The offline page, the live view and the gallery."""
