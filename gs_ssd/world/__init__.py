"""Floor 1: the procedural objects that the bundled prior and the judge are trained on."""
