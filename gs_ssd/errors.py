"""The one exception for mistakes that the user can mend."""


class UserError(Exception):
    """A mistake in a config, prompt, file, model or device, phrased for the person who can mend it.

    The message names the key or file and the mend. Command-line entry points print it
    without a traceback and exit with code 2.
    """
