"""Floor 3: the judge, picture statistics and the asset benchmark."""
