"""Sockets as the tests use them: sending and receiving with a deadline, and worse manners."""
import os
import socket
import struct

HERE = "127.0.0.1"
RESET = "reset"  # what receive() returns for it
END = b""  # what receive() returns at the end of file


def receive(s, wait=5.0):
    """Returns a piece; END; RESET; None if nothing came in time."""
    s.settimeout(wait)
    try:
        return s.recv(1 << 20)
    except socket.timeout:
        return None
    except ConnectionResetError:
        return RESET


def receive_all(s):
    """Returns all that came, and how it ended: END, RESET or None."""
    data = b""
    while isinstance(piece := receive(s, 10), bytes) and piece:
        data += piece
    return data, piece


def echoes(s, data=b"ping"):
    """Does one send() come back in one piece?"""
    try:
        s.sendall(data)
        return receive(s) == data
    except OSError:
        return False


def succeeds(call, *arguments):
    """Returns whether a call works, that is, raises no OSError."""
    try:
        call(*arguments)
        return True
    except OSError:
        return False


def udp_socket(address=(HERE, 0), to=None):
    """A UDP socket with that address, connected to another if you like."""
    s = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(address)
    if to:
        s.connect(to)
    return s


def unixgram_socket(path="", to=None):
    """A unixgram socket at that path (at none: autobind), connected to another if you like."""
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path)
    if to:
        s.connect(to)
    return s


def send_as(server_path):
    """Sends a datagram to a unixgram server whose path is relative to here. The sender's address
    is that path, too, but made elsewhere: where the server looks, it is the server's own socket.
    """
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    unixgram_socket(server_path).sendto(b"loop", f"../{server_path}")


def enlarge_send_buffer(s):
    """Makes room to send messages of up to a few hundred thousand bytes."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)


def fill(s, data=bytes(1 << 16)):
    """Sends until the buffers on the way are full. Returns the socket."""
    s.setblocking(False)
    try:
        while True:
            s.send(data)
    except BlockingIOError:
        return s


def reset(s):
    """Closes a TCP connection by a reset."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
