"""PostgreSQL servers of a test's own, to be stopped, replicated, pooled, and cut off by a silent network."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from external import need, need_module
from patience import eventually
from processes import free_port


class Server:
    """A server on loopback that trusts everyone; its superuser is `riskmon`. `start` may follow `stop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self._user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Self]:
        """Run a new one until the block ends."""
        with cls._folder() as folder:
            server = cls(folder)
            server._run(
                "initdb",
                "-D",
                str(server.data),
                "-U",
                "riskmon",
                "-A",
                "trust",
                "-N",
                "--no-locale",
                "-E",
                "UTF8",
            )
            try:
                yield server.start()
            finally:
                server.stop()

    @contextlib.contextmanager
    def replica(self) -> Iterator["Server"]:
        """Run a standby of this server, which follows it asynchronously."""
        with self._folder() as folder:
            standby = Server(folder)
            copy = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "riskmon", "-D", str(standby.data), "-R"]
            standby._run("pg_basebackup", *copy, "--no-sync", "--checkpoint=fast")
            try:
                yield standby.start()
            finally:
                standby.stop()

    @classmethod
    @contextlib.contextmanager
    def _folder(cls) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="riskmon-pg-") as name:
            if os.geteuid() == 0:
                shutil.chown(name, "nobody")
            yield Path(name)

    def _run(self, program: str, *arguments: str) -> None:
        command = [need(program), *arguments]
        done = subprocess.run(command, user=self._user, cwd=self.folder, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def start(self) -> Self:
        """Start it, and wait until it answers."""
        settings = {
            "unix_socket_directories": self.folder,
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "fsync": "off",
            "wal_level": "replica",
            "max_connections": 60,
        }
        self._process = subprocess.Popen(
            [need("postgres"), "-D", str(self.data), *(f"--{k}={v}" for k, v in settings.items())],
            user=self._user,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ready = [need("pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q", "-t", "1"]
        eventually(lambda: subprocess.run(ready, check=False).returncode == 0, "a server")
        return self

    def stop(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.terminate() if self._process.poll() is None else None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
            if self._process.poll() is None:
                self._process.send_signal(3)  # SIGQUIT: at once, without a shutdown of its own
            self._process.wait()
            self._process = None

    def sql(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Execute statements, and return the rows of the last one."""
        psycopg = need_module("psycopg")
        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            rows: list[Any] = cursor.fetchall() if cursor.description else []
            return rows

    def url(self, user: str = "riskmon", database: str = "postgres", port: int | None = None) -> str:
        """Return the URL of a ledger in one of its databases, perhaps through another port."""
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    @contextlib.contextmanager
    def everywhere(self, setting: str, value: str) -> Iterator[None]:
        """Set something for all sessions, those under way too."""
        self.sql(f"ALTER SYSTEM SET {setting} = {value}", "SELECT pg_reload_conf()")
        self._await(setting, value)
        yield
        self.sql(f"ALTER SYSTEM RESET {setting}", "SELECT pg_reload_conf()")
        self._await(setting, "")

    def _await(self, setting: str, value: str) -> None:
        shown = f"SELECT current_setting('{setting}')"
        eventually(lambda: (self.sql(shown)[0][0] == value) == bool(value), f"{setting} = {value}")


class Network:
    """A way to a server that may be cut, be slow, or fall silent: then it takes all and passes nothing on."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._passing = threading.Event()
        self._passing.set()
        self.cut = False
        self.delay = 0.0  # seconds before each piece of an answer
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._passing.set()
        self.hang_up()

    def fall_silent(self) -> None:
        """Take what is sent, and pass nothing on."""
        self._passing.clear()

    def speak(self) -> None:
        """Pass on again; what was swallowed is lost with its connections."""
        self.hang_up()
        self._passing.set()

    def hang_up(self) -> None:
        """Close all connections."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open = []

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay)
                if self._passing.is_set():
                    target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def pgbouncer(server: Server) -> Iterator[int]:
    """Run PgBouncer in transaction mode, with fewer sessions than clients; yields its port."""
    port = free_port()
    (server.folder / "users.txt").write_text('"riskmon" ""\n')
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "auth_type": "trust",
        "auth_file": server.folder / "users.txt",
        "pool_mode": "transaction",
        "default_pool_size": 2,
        "unix_socket_dir": "",
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    target = f"* = host=127.0.0.1 port={server.port}"
    ini = server.folder / "pgbouncer.ini"
    ini.write_text("\n".join(["[databases]", target, "[pgbouncer]", *lines, ""]))
    user = "nobody" if os.geteuid() == 0 else None
    with subprocess.Popen([need("pgbouncer"), "-q", str(ini)], user=user) as process:
        try:
            ready = [need("pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q", "-t", "1"]
            eventually(lambda: subprocess.run(ready, check=False).returncode == 0, "PgBouncer")
            yield port
        finally:
            process.terminate()
