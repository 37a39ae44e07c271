"""The judge, picture statistics and the asset benchmark."""
