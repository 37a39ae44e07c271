"""One module a subcommand of `gs-ssd`; each offers `add_arguments(parser)` and `run(args) ->
int`."""
