"""What can be broken when a test says so: a PostgreSQL server, and the network before one."""

import contextlib
import socket
import threading
import time
from typing import Any

from sqlalchemy import make_url

from .world import PATIENCE


class Server:
    """A PostgreSQL server of our own, which can be killed."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url = server.get_uri()

    def kill(self) -> None:
        """``kill -9`` the server and every process of it."""
        import psutil

        postmaster = psutil.Process(self._server.get_pid())
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=PATIENCE)

    def start(self) -> None:
        self._server.ensure_postgres_running()


class Proxy:
    """A TCP proxy before PostgreSQL, which can cut, swallow or slow down everything that is sent."""

    def __init__(self, server: str) -> None:
        url = make_url(server)
        host = str(url.query.get("host") or url.host or "127.0.0.1")
        self._target: Any = f"{host}/.s.PGSQL.{url.port or 5432}" if host[0] == "/" else (host, url.port or 5432)
        self._hears = threading.Event()
        self._hears.set()
        self.delay = 0.0
        self._sockets: list[socket.socket] = []
        self._deaf: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = url.set(host="127.0.0.1", port=self.port, query={}).render_as_string(hide_password=False)
        threading.Thread(target=self._accept, daemon=True).start()

    def stall(self) -> None:
        """Go on acknowledging what is sent, as far as TCP can tell, and never pass it on."""
        self._hears.clear()

    def resume(self) -> None:
        self._hears.set()

    def cut(self) -> None:
        """Break every connection there is."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut_off_from_the_server(self) -> None:
        """Connections that stand go on being acknowledged and never answered; new ones work."""
        for each in self._sockets:
            self._deaf.add(each)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
                server.connect(self._target)
                self._sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := source.recv(65536):
                time.sleep(self.delay)
                if self._hears.is_set() and source not in self._deaf:
                    sink.sendall(received)
            if source not in self._deaf:  # not even that the other side has left comes through
                sink.shutdown(socket.SHUT_RDWR)
