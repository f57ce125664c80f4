"""The module `ssl` of a task. The host does TLS and checks certificates, so contexts only remember their options."""

import enum
from socket import error as _OSError

HAS_SNI = HAS_ALPN = HAS_TLSv1_2 = HAS_TLSv1_3 = True
HAS_NEVER_CHECK_COMMON_NAME = True
OPENSSL_VERSION = "OpenSSL 3.0.0 (TLS by the host of wasq)"
OPENSSL_VERSION_INFO = (3, 0, 0, 0, 0)
OPENSSL_VERSION_NUMBER = 0x30000000


class SSLError(_OSError):
    pass


class SSLZeroReturnError(SSLError):
    pass


class SSLWantReadError(SSLError):
    pass


class SSLWantWriteError(SSLError):
    pass


class SSLSyscallError(SSLError):
    pass


class SSLEOFError(SSLError):
    pass


class SSLCertVerificationError(SSLError, ValueError):
    pass


CertificateError = SSLCertVerificationError


class TLSVersion(enum.IntEnum):
    MINIMUM_SUPPORTED = -2
    SSLv3 = 768
    TLSv1 = 769
    TLSv1_1 = 770
    TLSv1_2 = 771
    TLSv1_3 = 772
    MAXIMUM_SUPPORTED = -1


class VerifyMode(enum.IntEnum):
    CERT_NONE = 0
    CERT_OPTIONAL = 1
    CERT_REQUIRED = 2


class Purpose(enum.Enum):
    SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
    CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"


CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED = VerifyMode
PROTOCOL_SSLv23 = PROTOCOL_TLS = 2
PROTOCOL_TLSv1, PROTOCOL_TLSv1_1, PROTOCOL_TLSv1_2 = 3, 4, 5
PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER = 16, 17
OP_ALL, OP_NO_SSLv2, OP_NO_SSLv3 = 0x80000054, 0, 0x2000000
OP_NO_TLSv1, OP_NO_TLSv1_1, OP_NO_TLSv1_2, OP_NO_TLSv1_3 = 0x4000000, 0x10000000, 0x8000000, 0x20000000
OP_NO_COMPRESSION, OP_NO_TICKET, OP_NO_RENEGOTIATION = 0x20000, 0x4000, 0x40000000
OP_LEGACY_SERVER_CONNECT = 4
VERIFY_DEFAULT, VERIFY_X509_PARTIAL_CHAIN, VERIFY_X509_STRICT = 0, 0x80000, 0x20


class SSLContext:
    """The options of a TLS connection."""

    def __init__(self, protocol=PROTOCOL_TLS):
        self.protocol = protocol
        self.check_hostname = protocol != PROTOCOL_TLS
        self._verify_mode = CERT_REQUIRED
        self.options = OP_ALL
        self.verify_flags = VERIFY_DEFAULT
        self.minimum_version = TLSVersion.TLSv1_2
        self.maximum_version = TLSVersion.MAXIMUM_SUPPORTED
        self.post_handshake_auth = False
        self.hostname_checks_common_name = False
        self.keylog_filename = None

    @property
    def verify_mode(self):
        return self._verify_mode

    @verify_mode.setter
    def verify_mode(self, mode):
        if mode == CERT_NONE:
            raise SSLError("the host always checks the certificates of servers; that cannot be turned off")
        self._verify_mode = VerifyMode(mode)

    def _ignored(self, *_, **__):
        """The host has the certificates of the public authorities."""

    load_verify_locations = load_default_certs = set_default_verify_paths = _ignored
    set_alpn_protocols = set_ciphers = set_ecdh_curve = _ignored

    def load_cert_chain(self, *_, **__):
        raise SSLError("a task cannot send a client certificate")

    def cert_store_stats(self):
        return {"x509": 0, "crl": 0, "x509_ca": 0}

    def get_ca_certs(self, binary_form=False):
        return []

    def wrap_socket(self, sock, server_side=False, server_hostname=None, **_):
        return sock.wrap()

    def wrap_bio(self, *_, **__):
        raise SSLError("a task cannot do TLS itself; use a client that is not asynchronous")


def create_default_context(purpose=Purpose.SERVER_AUTH, **_):
    return SSLContext(PROTOCOL_TLS_CLIENT)


_create_default_https_context = _create_unverified_context = create_default_context
_create_stdlib_context = create_default_context


def get_default_verify_paths():
    raise SSLError("a task has no certificates; the host checks those of servers")


SSLSocket = SSLObject = MemoryBIO = type("SSLSocket", (), {})
