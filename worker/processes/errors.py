"""What can keep the private servers and our own processes from running.

    ProcessesError
    ├── FolderNotWritable   RECLAIM_HOME cannot be written
    ├── PathTooLong         RECLAIM_HOME is too deep for a Unix socket
    ├── PathUnfit           RECLAIM_HOME has characters supervisord cannot be given
    ├── BinaryMissing       no PostgreSQL or Redis to start
    ├── PortTaken           a port asked for by number belongs to someone else
    ├── AccountMissing      started as root, and no account to run PostgreSQL under
    ├── UnknownProcess      a name that is not in the process list
    ├── NotOurs             a folder to be erased holds more than Reclaim put there
    └── NotReady            started, but did not come up; the message ends with its log

Each message says what was expected, what was found and what to do. `exit_code` is what the
`reclaim` command returns for it, one number per cause.
"""


class ProcessesError(Exception):
    """Base of everything this package raises on purpose."""

    exit_code = 20


class FolderNotWritable(ProcessesError):
    exit_code = 21


class PathTooLong(ProcessesError):
    exit_code = 22


class BinaryMissing(ProcessesError):
    exit_code = 23


class PortTaken(ProcessesError):
    exit_code = 24


class AccountMissing(ProcessesError):
    exit_code = 25


class UnknownProcess(ProcessesError):
    exit_code = 26


class NotReady(ProcessesError):
    exit_code = 27


class PathUnfit(ProcessesError):
    exit_code = 28


class NotOurs(ProcessesError):
    exit_code = 29
