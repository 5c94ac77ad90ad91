"""A certificate authority that a test makes on the spot.

Nothing but Python: numbers, DER (ITU-T X.690) and PKCS #1 v1.5 signatures (RFC 8017) make the certificates (RFC 5280), so no
key lies in the repository and no program has to be installed. Good for tests on this machine, and for nothing else.

    authority = Authority(folder)
    with FaultProxy(mock.port, tls=authority.issue("localhost")) as server: …
"""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import math
import pathlib
import secrets
import ssl

BITS = 2048
COMMON_NAME, RSA, SHA256_RSA = "2.5.4.3", "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.11"
BASIC, NAMES = "2.5.29.19", "2.5.29.17"
# The algorithm's name before a SHA-256 digest (RFC 8017, 9.2, note 1).
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
SMALL = tuple(n for n in range(3, 2000, 2) if all(n % k for k in range(3, math.isqrt(n) + 1, 2)))


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + body


def sequence(*parts: bytes) -> bytes:
    return der(0x30, *parts)


def integer(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def bits(body: bytes) -> bytes:
    return der(0x03, b"\0" + body)


def oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    body = bytes([40 * first + second])
    for number in rest:
        digits = [number & 0x7F]
        while number := number >> 7:
            digits.append(0x80 | (number & 0x7F))
        body += bytes(reversed(digits))
    return der(0x06, body)


def algorithm(name: str) -> bytes:
    return sequence(oid(name), der(0x05))


def moment(year: int) -> bytes:
    """The first second of a year; GeneralizedTime begins with 2050 (RFC 5280, 4.1.2.5)."""
    return der(0x17, f"{year % 100:02}0101000000Z".encode()) if year < 2050 else der(0x18, f"{year}0101000000Z".encode())


def named(name: str) -> bytes:
    return sequence(der(0x31, sequence(oid(COMMON_NAME), der(0x0C, name.encode()))))


def pem(label: str, body: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(body).decode()}-----END {label}-----\n"


def is_prime(number: int) -> bool:
    """Miller and Rabin, with bases by chance."""
    if any(number % small == 0 for small in SMALL):
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(8):
        power = pow(secrets.randbelow(number - 3) + 2, odd, number)
        if power not in (1, number - 1) and not any((power := power * power % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


def prime() -> int:
    while True:
        # The two highest bits, so that the product of two has all its bits.
        number = secrets.randbits(BITS // 2) | 3 << (BITS // 2 - 2) | 1
        if number % 65537 != 1 and is_prime(number):
            return number


class Key:
    """An RSA key."""

    def __init__(self) -> None:
        self.p, self.q, self.e = prime(), prime(), 65537
        self.n = self.p * self.q
        self.d = pow(self.e, -1, (self.p - 1) * (self.q - 1))

    def public(self) -> bytes:
        return sequence(algorithm(RSA), bits(sequence(integer(self.n), integer(self.e))))

    def private(self) -> str:
        numbers = (0, self.n, self.e, self.d, self.p, self.q, self.d % (self.p - 1), self.d % (self.q - 1), pow(self.q, -1, self.p))
        return pem("RSA PRIVATE KEY", sequence(*map(integer, numbers)))

    def sign(self, body: bytes) -> bytes:
        digest = DIGEST_INFO + hashlib.sha256(body).digest()
        padded = b"\0\1".ljust(BITS // 8 - len(digest) - 1, b"\xff") + b"\0" + digest
        return pow(int.from_bytes(padded, "big"), self.d, self.n).to_bytes(BITS // 8, "big")


@functools.cache
def keys() -> tuple[Key, Key]:
    """The authority's key and the servers', made once for all tests: they take the most time."""
    return Key(), Key()


class Authority:
    """Whoever trusts `file` trusts what it issues."""

    def __init__(self, folder: pathlib.Path, name: str = "authority of a test"):
        self.folder, self.name = folder, name
        self.key, self.servers = keys()
        self.file = folder / "authority.pem"
        basic = sequence(oid(BASIC), der(0x01, b"\xff"), der(0x04, sequence(der(0x01, b"\xff"))))
        self.file.write_text(pem("CERTIFICATE", self.certificate(name, self.key, basic, 2020, 2120)))

    def certificate(self, name: str, key: Key, extension: bytes, since: int, until: int) -> bytes:
        body = sequence(
            der(0xA0, integer(2)), integer(secrets.randbits(63)), algorithm(SHA256_RSA), named(self.name),
            sequence(moment(since), moment(until)), named(name), key.public(), der(0xA3, sequence(extension)))
        return sequence(body, algorithm(SHA256_RSA), bits(self.key.sign(body)))

    def write(self, name: str, since: int | None = None, until: int | None = None) -> pathlib.Path:
        """The file with key and certificate of a server that proves to be `name`, from the beginning of one year to the
        beginning of another; of the last and the next but one when nothing is said."""
        year = datetime.datetime.now(datetime.timezone.utc).year
        alternative = sequence(oid(NAMES), der(0x04, sequence(der(0x82, name.encode()))))
        made = self.certificate(name, self.servers, alternative, since or year - 1, until or year + 2)
        path = self.folder / f"{name}-{secrets.token_hex(4)}.pem"
        path.write_text(self.servers.private() + pem("CERTIFICATE", made))
        return path

    def issue(self, name: str, since: int | None = None, until: int | None = None) -> ssl.SSLContext:
        """A server that proves to be `name`, as `write` has it."""
        path = self.write(name, since, until)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        path.unlink()
        return context
