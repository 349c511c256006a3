"""How the user called this program, so that a command that it prints can be pasted as it stands."""

import re
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

NAME = "ai-vs-real"


def called() -> str:
    """Return the words by which this program is called here: its name where the shell finds it, else its path."""
    program = Path(sys.argv[0])
    if program.name != NAME:
        return NAME
    program_on_path = shutil.which(NAME)
    if program_on_path and Path(program_on_path).resolve() == program.resolve():
        return NAME
    return shlex.quote(sys.argv[0])


def pasteable(text: str, commands: Iterable[str]) -> str:
    """Return a text in which this program's commands begin with how it is called here.

    Args:
        text: Such as an error that names the command to run next.
        commands: Names of the commands.
    """
    names = "|".join(map(re.escape, commands))
    return re.sub(rf"(?<![\w/.-]){NAME}(?= (?:{names})\b)", lambda _: called(), text)
