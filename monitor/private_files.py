"""Files and folders that only their owner may read, from the moment they are made, whatever the umask."""

import os
from pathlib import Path


def make_private_folder(path: Path) -> None:
    """Make a folder of mode 0700, its parents as the umask says; leave one that exists. Raises OSError."""
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise


def make_private_file(path: Path) -> None:
    """Make an empty file of mode 0600; leave one that exists. Raises OSError.

    SQLite gives its write-ahead log and shared memory the mode of the database.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return


def nearest_folder(path: Path) -> Path:
    """Return the path, or the nearest one above it that exists."""
    return next((each for each in (path, *path.parents) if os.path.lexists(each)), Path())


def unwritable(path: Path) -> str:
    """Return why a file cannot be made, empty if it can; tries nothing."""
    folder = nearest_folder(path.parent)
    if not folder.is_dir():
        return f"{folder} is not a folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} cannot be written"
