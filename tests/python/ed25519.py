"""Ed25519 as docs/FORMATS.md has it ("Keys and signatures"): no cofactor, and nothing of low order.

The equation is left to the library. What libraries do not agree about is checked here, by hand.
"""

import functools

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from formats import Refused, check

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)


def point(data):
    """The point of the curve that 32 bytes name, or None. y is taken modulo p."""
    number = int.from_bytes(data, "little")
    y = (number & (2**255 - 1)) % P
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P != u:
        x = x * SQRT_MINUS_1 % P
    if v * x * x % P != u:
        return None
    return (P - x if x & 1 != number >> 255 else x) % P, y


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    k = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P
    return x, y


def is_low_order(p):
    for _ in range(3):
        p = add(p, p)
    return p == (0, 1)


@functools.lru_cache(maxsize=4096)
def key_fault(key):
    """What is wrong with a public key: a code and words, or None."""
    if len(key) != 32:
        return "KEY_LENGTH", f"32 bytes expected, {len(key)} found"
    p = point(key)
    if p is None:
        return "KEY_NOT_A_POINT", "not a point of the curve"
    return ("KEY_LOW_ORDER", "a key of low order") if is_low_order(p) else None


def check_key(key):
    fault = key_fault(bytes(key))
    if fault:
        raise Refused(*fault)


def is_key(key):
    return key_fault(bytes(key)) is None


def verify(key, message, signature, code="BAD_SIGNATURE", what="signature"):
    check(len(signature) == 64, code, f"{what}: not 64 bytes")
    check(is_key(key), code, f"{what}: by no key")
    scalar = int.from_bytes(signature[32:], "little")
    check(scalar < L, code, f"{what}: its scalar is not reduced")
    r = point(signature[:32])
    check(r is not None and not is_low_order(r), code, f"{what}: R is no point, or of low order")
    try:
        Ed25519PublicKey.from_public_bytes(bytes(key)).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise Refused(code, f"{what}: does not verify") from error
