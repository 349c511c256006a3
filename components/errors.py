"""What went wrong, in words for the person who can correct it."""

from components.progress import printable


class InputError(ValueError):
    """An error of input or environment that the user can correct, in one line.

    The message says what is wrong, the value received, what would be accepted, and what to do. The command line prints
    it alone; every other exception is a defect and keeps its traceback. What a name brings along that is no printable
    sign, such as a newline, is escaped, wherever the message is shown.
    """

    def __init__(self, message: object = ""):
        super().__init__(printable(str(message)))
