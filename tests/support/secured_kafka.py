"""An Apache Kafka that asks who is there, with TLS, SASL and access control lists, to see what it refuses."""

import ipaddress
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from apache_kafka import ApacheKafka, free_ports
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER: Final = "reader"
PASSWORD: Final = "right"
TLS_LISTENERS: Final = ("TLS", "MUTUAL", "STRANGE", "EXPIRED")
"""TLS, TLS that wants a certificate, and TLS with the certificate of another host or of yesterday."""


class Pem(NamedTuple):
    """Files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates into a folder; its own is `certificate`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = folder / f"{name}.pem"
        own = self._builder(self._name, self._key, timedelta(days=1)).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.certificate.write_bytes(_pem(own.sign(self._key, hashes.SHA256())))

    def issue(self, name: str, host: str = "127.0.0.1", days: int = 1) -> Pem:
        """Sign a certificate for a host; one of negative `days` has run out so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        entry: x509.GeneralName = (
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        )
        builder = self._builder(subject, key, timedelta(days=days)).add_extension(
            x509.SubjectAlternativeName([entry]), critical=False
        )
        files = Pem(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        files.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid: timedelta
    ) -> x509.CertificateBuilder:
        end = datetime.now(UTC) + valid
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=3))
            .not_valid_after(end)
        )


class SecuredKafka(ApacheKafka):
    """A broker that wants a login at `bootstrap`, TLS at `addresses`, and rights of whoever logs in.

    `authority` signed the certificates it shows, and signs those it takes. Files of both are in `folder`.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(
            protocol="SASL_PLAINTEXT",
            users={USER: PASSWORD},
            properties={
                "sasl.enabled.mechanisms": "PLAIN",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            },
        )
        self.authority = Authority(folder, "authority")
        self.addresses: dict[str, str] = {}
        self._shown = {
            "TLS": self.authority.issue("broker"),
            "MUTUAL": self.authority.issue("mutual"),
            "STRANGE": self.authority.issue("strange", "elsewhere.example.org"),
            "EXPIRED": self.authority.issue("expired", days=-1),
        }

    @property
    def inner(self) -> str:
        """Address of the listener in plain text, at which everybody may do everything."""
        return self._inner

    def login(self, *topics: str, **others: Any) -> dict[str, Any]:
        """Return the `kafka` section of a configuration that logs in as the user with rights."""
        return {
            "bootstrap_servers": [self.bootstrap],
            "topics": list(topics),
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": USER,
            "sasl_password": PASSWORD,
            "session_timeout_ms": 6000,
            "heartbeat_interval_ms": 1000,
        } | others

    def tls(self, listener: str, topic: str, **others: Any) -> dict[str, Any]:
        """Return the `kafka` section of a configuration that speaks TLS."""
        return {
            "bootstrap_servers": [self.addresses[listener]],
            "topics": [topic],
            "security_protocol": "SSL",
            "ssl_cafile": str(self.authority.certificate),
        } | others

    def allow(self, right: str, kind: str, name: str) -> None:
        """Give the user a right, e.g. READ on the TOPIC of this name."""
        self._acl(right, kind, name, withdraw=False)

    def withdraw(self, right: str, kind: str, name: str) -> None:
        """Take a right back."""
        self._acl(right, kind, name, withdraw=True)

    def _acl(self, right: str, kind: str, name: str, *, withdraw: bool) -> None:
        from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

        acl = ACL(
            principal=f"User:{USER}",
            host="*",
            operation=ACLOperation[right],
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=ResourcePattern(ResourceType[kind], name),
        )
        with self.admin() as admin:
            if withdraw:
                admin.delete_acls([acl])
            else:
                admin.create_acls([acl])

    def _prepare(self) -> None:
        super()._prepare()
        ports = free_ports(len(TLS_LISTENERS))
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in zip(TLS_LISTENERS, ports, strict=True)}
        protocols = dict.fromkeys(TLS_LISTENERS, "SSL")
        if six := _free_ipv6_port():
            self.addresses["SIX"] = f"[::1]:{six}"
            protocols["SIX"] = "PLAINTEXT"
        more = {
            "listeners": ",".join(f"{name}://{address}" for name, address in self.addresses.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in protocols.items()),
        }
        lines = [
            f"{line},{more[key]}" if (key := line.partition("=")[0]) in more else line
            for line in self.configuration.read_text(encoding="utf-8").splitlines()
        ]
        for name, files in self._shown.items():
            store = files.key.with_suffix(".store")
            store.write_bytes(files.key.read_bytes() + files.certificate.read_bytes())
            lines += [
                f"listener.name.{name.lower()}.ssl.{key}"
                for key in (
                    "keystore.type=PEM",
                    f"keystore.location={store}",
                    "truststore.type=PEM",
                    f"truststore.location={self.authority.certificate}",
                )
            ]
        lines.append("listener.name.mutual.ssl.client.auth=required")
        self.configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _free_ipv6_port() -> int | None:
    """A port of the IPv6 loopback; None on a machine without one."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            return int(probe.getsockname()[1])
    except OSError:
        return None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
