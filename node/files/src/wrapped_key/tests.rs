use super::*;

/// `openssl pkcs8 -topk8 -scrypt`, OpenSSL 3.0, of the X25519 key 00 01 … 1f under `correct horse`.
const SCRYPT: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAhq1mDSyiTwuAICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBAfnGuLy0dWt22Buja9Qxq1BEBkYQwtCW0g+2dH
dggQXmVG/faaDoO4q46qaR58l7IGlGOOno9WiOEeJRg3pUwj4OHlBkbhARelRsSZ
Y0eFQe2M
-----END ENCRYPTED PRIVATE KEY-----
";
/// The same with `-v2 aes-256-cbc -iter 1000`.
const PBKDF2: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjUVkWuRWqWaQICA+gw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEKJN6EPtqIV54Dxt3YvYhV8EQOng
mZKvoy8CXAW5TLL/9QbPAZKSg2S5cjptZfbV+ugNdXb7l4IL+EUa9Ozb5yIQD0zE
H4lZTpvFw7XZWC/zIfw=
-----END ENCRYPTED PRIVATE KEY-----
";

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text).expect("long enough")
}

fn counting() -> Secret {
    Secret::new(&std::array::from_fn(|at| u8::try_from(at).expect("below 32")))
}

#[test]
fn a_key_that_openssl_wrapped_is_opened() {
    for pem in [SCRYPT, PBKDF2] {
        let opened = unwrap(KeyAlgorithm::X25519, pem, Some(&passphrase("correct horse")));
        assert!(opened.expect("opened").is(&counting()));
    }
}

#[test]
fn a_key_comes_back_with_its_passphrase_and_with_no_other_and_is_not_in_the_text() {
    let key = counting();
    for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::X25519] {
        let clear = wrap(algorithm, &key, None).expect("randomness");
        assert!(!is_encrypted(&clear));
        assert!(unwrap(algorithm, &clear, None).expect("read").is(&key));
        let given = unwrap(algorithm, &clear, Some(&passphrase("a"))).expect_err("none is needed");
        assert_eq!(given.code(), "PASSPHRASE_NOT_NEEDED");

        let wrapped = wrap(algorithm, &key, Some(&passphrase("a"))).expect("randomness");
        assert!(is_encrypted(&wrapped));
        let before = format!("a line before it\n{}", &*wrapped);
        assert!(unwrap(algorithm, &before, Some(&passphrase("a"))).expect("opened").is(&key));
        for (given, code) in
            [(None, "PASSPHRASE_NEEDED"), (Some(passphrase("b")), "PASSPHRASE_WRONG")]
        {
            let error = unwrap(algorithm, &wrapped, given.as_ref()).expect_err("refused");
            assert_eq!(error.code(), code);
        }
        let again = wrap(algorithm, &key, Some(&passphrase("a"))).expect("randomness");
        assert_ne!(*again, *wrapped, "another salt");
        let body = clear.lines().nth(1).expect("base64");
        assert!(!wrapped.contains(&body[22..]), "the key in clear");
    }
    let other = wrap(KeyAlgorithm::Ed25519, &key, None).expect("randomness");
    assert!(unwrap(KeyAlgorithm::X25519, &other, None).is_err(), "a key for something else");
}

#[test]
fn what_is_cut_or_is_something_else_is_told_and_nothing_panics() {
    let passphrase = passphrase("correct horse");
    for length in 0..SCRYPT.len() - 1 {
        let cut = unwrap(KeyAlgorithm::X25519, &SCRYPT[..length], Some(&passphrase));
        assert_eq!(cut.expect_err("cut").code(), "WRAPPED_KEY_MALFORMED", "{length}");
    }
    let certificate = SCRYPT.replace("ENCRYPTED PRIVATE KEY", "CERTIFICATE");
    let error = unwrap(KeyAlgorithm::X25519, &certificate, Some(&passphrase)).expect_err("other");
    assert_eq!(error.code(), "WRAPPED_KEY_MALFORMED");
}

/// Costs that a file asks for, each as its bytes have it in DER.
#[test]
fn costs_without_bounds_and_none_at_all_are_refused() {
    let (_, document) = SecretDocument::from_pem(SCRYPT).expect("a PEM");
    // N = 16384, r = 8, p = 1.
    let costs = [0x02, 0x02, 0x40, 0x00, 0x02, 0x01, 0x08, 0x02, 0x01, 0x01];
    let at = document.as_bytes().windows(10).position(|bytes| bytes == costs).expect("there");
    let with = |costs: [u8; 10]| {
        let mut bytes = document.as_bytes().to_vec();
        bytes[at..at + 10].copy_from_slice(&costs);
        let document = SecretDocument::try_from(bytes).expect("DER");
        let pem = document.to_pem(ENCRYPTED, LineEnding::LF).expect("a PEM");
        unwrap(KeyAlgorithm::X25519, &pem, Some(&passphrase("correct horse")))
    };
    assert!(with(costs).is_ok());
    for (n, r, p) in [
        // N = 1, and an N that is no power of two.
        ([0x00, 0x01], 8, 1),
        ([0x40, 0x01], 8, 1),
        ([0x40, 0x00], 0, 1),
        ([0x40, 0x00], 8, 0),
        ([0x7f, 0xff], 0x7f, 0x7f),
        // Little work each, for a guess or for the memory that many blocks at once take.
        ([0x02, 0x00], 8, 1),
        ([0x04, 0x00], 8, 65),
    ] {
        let result = with([0x02, 0x02, n[0], n[1], 0x02, 0x01, r, 0x02, 0x01, p]);
        assert!(result.is_err(), "{n:?} {r} {p}");
    }
}

/// Each bound by itself: what is held before any work is done is bounded too.
#[test]
fn what_is_held_for_all_lanes_at_once_is_bounded() {
    let within = |n: u64, r: u32, p: u32| {
        let salt = pkcs8::pkcs5::pbes2::Salt::new([0; 16]).expect("a salt");
        let costs = scrypt::Params::new(14, 8, 1).expect("costs");
        let scheme = Parameters::generate_scrypt_aes256cbc(costs, salt.as_ref(), [0; 16]);
        let mut scheme = scheme.expect("a scheme");
        let Kdf::Scrypt(costs) = &mut scheme.kdf else { panic!("scrypt") };
        (costs.cost_parameter, costs.block_size) = (n, r.try_into().expect("small"));
        costs.parallelization = p.try_into().expect("small");
        affordable(&EncryptionScheme::Pbes2(scheme)).is_ok()
    };
    assert!(within(1 << 14, 8, 5) && within(1 << 10, 8, 1) && within(1 << 10, 8, 64));
    assert!(within(1 << 17, 8, 1), "128 MiB");
    for (n, r, p) in [
        (2, 128, 65_535),
        (1 << 9, 8, 1),
        (1 << 10, 8, 65),
        (1 << 10, 4096, 64),
        (1 << 10, 2047, 65),
        (1 << 18, 16, 1),
        (1 << 14, 8, 0),
        (1 << 14, 0, 1),
    ] {
        assert!(!within(n, r, p), "{n} {r} {p}");
    }
}
