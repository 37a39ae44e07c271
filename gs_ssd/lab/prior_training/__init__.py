"""How the bundled prior is trained and published, from captions and rendered pictures to a pipeline
folder."""
