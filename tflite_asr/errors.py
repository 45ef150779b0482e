"""The errors a user can meet: each message is one line that names the file, the value and the mend."""

from __future__ import annotations


class TfliteAsrError(Exception):
    """Wrong use or bad input: the command line prints the message and exits with 2."""

    exit_code = 2


class Finding(TfliteAsrError):
    """What was asked for was looked at and found wanting (a failed audit, a broken bundle): exit code 1."""

    exit_code = 1
