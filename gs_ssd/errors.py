"""The one exception for mistakes that the user can fix."""


class UserError(Exception):
    """A mistake in a config, prompt, file, model or device, phrased for the person who can fix it.

    The message names the key or file and the fix. Command-line entry points print it
    without a traceback and exit with code 2.
    """
