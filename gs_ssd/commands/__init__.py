"""Floor 7: the subcommands of `gs-ssd`: parse, call, report."""
