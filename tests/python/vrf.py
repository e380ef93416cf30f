"""The verifiable random function of docs/FORMATS.md, and the subject keys of sealed records.

Pure Python over the integers: it verifies, and computes outputs for tests. It takes a time that tells what
it computes, so it is not for secret keys that matter.
"""

import hashlib

import ed25519
import formats
import plaintext
from formats import Refused, check
from plaintext import SCHEME_NAME

P, L = ed25519.P, ed25519.L
D2 = 2 * ed25519.D % P
PROOF_BYTES = 80
BASE = ed25519.point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


# ------------------------------------------------------------------ points, as (X, Y, Z, XY/Z)


def extended(affine):
    x, y = affine
    return x, y, 1, x * y % P


NEUTRAL = extended((0, 1))


def add(a, b):
    (x1, y1, z1, t1), (x2, y2, z2, t2) = a, b
    m, n = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    t, z = t1 * D2 * t2 % P, 2 * z1 * z2 % P
    e, f, g, h = n - m, z - t, z + t, n + m
    return e * f % P, g * h % P, f * g % P, e * h % P


def negative(a):
    x, y, z, t = a
    return -x % P, y, z, -t % P


def times(number, a):
    found = NEUTRAL
    for bit in bin(number)[2:]:
        found = add(found, found)
        if bit == "1":
            found = add(found, a)
    return found


def encode(a):
    x, y, z, _ = a
    inverse = pow(z, -1, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode(data):
    """The point that these bytes are the encoding of, or None: each point has one."""
    affine = ed25519.point(data)
    if affine is None or encode(extended(affine)) != data:
        return None
    return extended(affine)


# ------------------------------------------------------------------ the function


def sha512(*parts):
    return hashlib.sha512(b"".join(parts)).digest()


def check_key(key):
    ed25519.check_key(key)
    check(decode(key) is not None, "KEY_NOT_CANONICAL", "y is not reduced")


def point_of(key, alpha):
    """H: what stands for alpha under a key."""
    for counter in range(256):
        found = decode(sha512(b"\3\1", key, alpha, bytes([counter]), b"\0")[:32])
        cleared = found and times(8, found)
        if cleared and encode(cleared) != encode(NEUTRAL):
            return cleared
    raise Refused("VRF_NO_POINT", "none of 256 tries is a point")


def output_of(gamma):
    return sha512(b"\3\3", encode(times(8, gamma)), b"\0")


def output(seed, alpha):
    """Beta by the secret key, and the public key."""
    half = int.from_bytes(sha512(seed)[:32], "little")
    x = half & (2**254 - 8) | 2**254
    key = encode(times(x, extended(BASE)))
    return output_of(times(x, point_of(key, alpha))), key


def read_proof(proof):
    """Gamma, c and s."""
    check(len(proof) == PROOF_BYTES, "VRF_PROOF_LENGTH", f"80 bytes expected, {len(proof)} found")
    gamma = decode(proof[:32])
    check(gamma is not None, "VRF_PROOF_GAMMA", "Gamma is not the encoding of a point")
    s = int.from_bytes(proof[48:], "little")
    check(s < L, "VRF_PROOF_SCALAR", "s is not reduced")
    return gamma, proof[32:48], s


def verify(key, alpha, proof):
    """Beta of alpha by a key. The proof is bytes, or what was read of them."""
    check_key(key)
    gamma, c, s = read_proof(proof) if isinstance(proof, bytes) else proof
    h, public = point_of(key, alpha), extended(ed25519.point(key))
    number = int.from_bytes(c, "little")
    u = add(times(s, extended(BASE)), negative(times(number, public)))
    v = add(times(s, h), negative(times(number, gamma)))
    points = (encode(point) for point in (h, gamma, u, v))
    found = sha512(b"\3\2", key, *points, b"\0")[:16]
    check(found == c, "VRF_PROOF_INVALID", "another key, or another alpha")
    return output_of(gamma)


# ------------------------------------------------------------------ sealed records


def alpha_of(agency, scheme, name):
    """What the function is of: agency and scheme by their numbers and bytes."""
    known = SCHEME_NAME.get(scheme)
    normal = known in plaintext.FORMS and plaintext.is_normal(known, name)
    check(normal, "VRF_SUBJECT", f"{known} {name!r} is no subject in the normal form")
    return formats.tag("sealed-subject-alpha") + agency + formats.u32(scheme) + name.encode()


def verify_subject(key, agency, scheme, name, proof):
    """K of a subject of records that an agency (16 bytes) lodges, by the key of the epoch."""
    return verify(key, alpha_of(agency, scheme, name), proof)[:32]


def index_key(agreement, epoch, agency, subject_key):
    return formats.tagged_hash(
        "sealed-subject", agreement, formats.u32(epoch), agency, subject_key
    )


# ------------------------------------------------------------------ structures of docs/vectors


def check_proof(data):
    """A key, a proof, and alpha."""
    check_key(data[:32])
    verify(data[:32], data[112:], data[32:112])


def check_subject(data):
    """A key, an agency, a scheme, a proof, and an id."""
    key, agency, scheme, proof, name = (
        data[:32],
        data[32:48],
        data[48:52],
        data[52:132],
        data[132:],
    )
    check_key(key)
    formats.read_agency_code(agency)
    read = read_proof(proof)
    try:
        name = name.decode()
    except UnicodeDecodeError as error:
        raise Refused("VRF_SUBJECT", "the id is no text") from error
    verify_subject(key, agency, int.from_bytes(scheme, "big"), name, read)
