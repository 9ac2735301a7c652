"""Checks the address that is to be served on before anything is loaded."""

from __future__ import annotations

import contextlib
import errno
import socket

_PORT_ERRORS = (errno.EADDRINUSE, errno.EACCES, errno.EPERM)


def check_address(host: str, port: int | None) -> None:
    """Raises an error that says what to type if nothing can be served at this address.

    Args:
        host (`str`):
            Name or address of this machine.
        port (`int`, *optional*):
            The port; `None` for the first free one.

    Raises:
        `ValueError`: If the port is out of range, or the host is not this machine.
        `OSError`: If the port is in use or may not be used.

    Example:
        >>> check_address("127.0.0.1", 99999)
        Traceback (most recent call last):
        ...
        ValueError: --port must be from 1 to 65535, got 99999; leave it out to take a free one
    """
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535):
        raise ValueError(f"--port must be from 1 to 65535, got {port!r}; leave it out to take a free one")
    if not isinstance(host, str) or not host:
        raise _no_such_host(host)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise _no_such_host(host) from None
    with contextlib.closing(socket.socket(family, kind, protocol)) as test_socket:
        test_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            test_socket.bind(address)
        except OSError as error:
            if port is None or error.errno not in _PORT_ERRORS:
                raise _no_such_host(host) from None
            raise OSError(
                f"port {port} of {host} cannot be used ({error.strerror}): end the program that has it, give another "
                "--port, or leave it out to take a free one"
            ) from None


def _no_such_host(host: object) -> ValueError:
    return ValueError(
        f"--host {host!r} is not an address of this machine: leave it out to serve on 127.0.0.1, or give 0.0.0.0"
    )
