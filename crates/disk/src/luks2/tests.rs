//! A header that cryptsetup 2.7.5 (Debian 13) made in a guest, and one named mutation of it per rule.

use proptest::prelude::*;

use super::*;

/// The first 32 KiB of a 2 GiB disk after `cryptsetup luksFormat --type luks2 --cipher aes-xts-plain64 --key-size 512
/// --sector-size 4096 --integrity hmac-sha256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000`. Its key is gone.
const REAL: &[u8; HEADERS_SIZE] = include_bytes!("../../testdata/debian13-cryptsetup-2.7.5.luks2");

fn json() -> String {
    let area = &REAL[binary::SIZE..COPY_SIZE];
    let end = area.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(area[..end].to_vec()).unwrap()
}

/// A header with this JSON in both copies and right checksums, as a host can make it.
fn with_json(json: &[u8]) -> Vec<u8> {
    let mut bytes = REAL.to_vec();
    for copy in Copy::ALL {
        let area = copy.offset() + binary::SIZE..copy.offset() + COPY_SIZE;
        bytes[area.clone()].fill(0);
        bytes[area][..json.len()].copy_from_slice(json);
        seal(&mut bytes, copy);
    }
    bytes
}

/// Computes one copy's checksum from its bytes, whatever they are.
fn seal(bytes: &mut [u8], copy: Copy) {
    let header = &mut bytes[copy.offset()..copy.offset() + COPY_SIZE];
    header[448..512].fill(0);
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, header);
    header[448..480].copy_from_slice(sum.as_ref());
}

/// Both copies with the same change to their binary headers.
fn with_binary(change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = REAL.to_vec();
    for copy in Copy::ALL {
        change(&mut bytes[copy.offset()..]);
        seal(&mut bytes, copy);
    }
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    VerifiedHeader::parse(Kind::StateDisk, bytes)
        .unwrap_err()
        .to_string()
}

/// A header whose JSON has `from` replaced by `to` once; both must make sense.
fn replaced(from: &str, to: &str) -> Vec<u8> {
    let json = json();
    assert!(json.contains(from), "{from} is not in {json}");
    with_json(json.replacen(from, to, 1).as_bytes())
}

#[test]
fn the_real_header_is_accepted() {
    let header = VerifiedHeader::parse(Kind::StateDisk, REAL).unwrap();
    assert_eq!(
        header.uuid(),
        uuid::uuid!("4ae66293-57aa-4821-b99c-ebc598a6e5a8")
    );
    assert_eq!(header.keyslot_area(), 32768..32768 + 385_024);
    assert!(!header.is_initialized());
    assert!(!header.secondary_is_blank());
    // The tools of this test make the same header again.
    assert_eq!(with_json(json().as_bytes()), REAL);
}

#[test]
fn what_is_written_anew_says_the_same() {
    let header = VerifiedHeader::parse(Kind::StateDisk, REAL).unwrap();
    let encoded = header.encode();
    assert_eq!(VerifiedHeader::parse(Kind::StateDisk, &encoded), Ok(header));
    for initialized in [false, true] {
        let header = VerifiedHeader::parse(Kind::StateDisk, REAL)
            .unwrap()
            .with_token(initialized);
        let again = VerifiedHeader::parse(Kind::StateDisk, &header.encode()).unwrap();
        assert_eq!(again.is_initialized(), initialized);
        assert_eq!(again, header);
    }
}

/// The original's disks: Argon2id with 64 MiB, and our token.
#[test]
fn the_originals_header_is_accepted() {
    let json = json()
        .replacen(
            r#""kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000,"#,
            r#""kdf":{"type":"argon2id","time":4,"memory":65536,"cpus":4,"#,
            1,
        )
        .replacen(
            r#""tokens":{}"#,
            r#""tokens":{"0":{"type":"constellation-state-disk","keyslots":[],"diskIsInitialized":true}}"#,
            1,
        );
    assert!(json.contains("argon2id") && json.contains("diskIsInitialized"));
    let header = VerifiedHeader::parse(Kind::StateDisk, &with_json(json.as_bytes())).unwrap();
    assert!(header.is_initialized());
    assert_eq!(
        VerifiedHeader::parse(Kind::StateDisk, &header.encode()),
        Ok(header)
    );
}

/// What a host can write into the JSON, with right checksums: the attack, its text, and what the refusal says.
#[test]
fn attacks_on_the_json() {
    let integrity = r#","integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}"#;
    let segment_cipher = r#""iv_tweak":"0","encryption":"aes-xts-plain64""#;
    let area_cipher = r#""size":"385024","encryption":"aes-xts-plain64""#;
    let kdf = r#""kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000"#;
    let more_segment = r#""segments":{"1":{"type":"linear","offset":"16777216","size":"dynamic"},"#;
    for (attack, from, to, expected) in [
        (
            "null cipher in the segment",
            segment_cipher,
            r#""iv_tweak":"0","encryption":"cipher_null-ecb""#,
            r#"segments.0.encryption is "cipher_null-ecb", only "aes-xts-plain64" is accepted"#,
        ),
        (
            "null cipher in the keyslot",
            area_cipher,
            r#""size":"385024","encryption":"cipher_null-ecb""#,
            r#"keyslots.0.area.encryption is "cipher_null-ecb", only "aes-xts-plain64" is accepted"#,
        ),
        (
            "weaker cipher",
            segment_cipher,
            r#""iv_tweak":"0","encryption":"aes-ecb""#,
            r#"segments.0.encryption is "aes-ecb", only "aes-xts-plain64" is accepted"#,
        ),
        (
            "cipher of the kernel's choosing",
            segment_cipher,
            r#""iv_tweak":"0","encryption":"capi:xts(aes-generic)-plain64""#,
            r#"segments.0.encryption is "capi:xts(aes-generic)-plain64", only "aes-xts-plain64" is accepted"#,
        ),
        (
            "second segment",
            r#""segments":{"#,
            more_segment,
            "segments.1 is not a field that is accepted here",
        ),
        (
            "linear segment",
            r#""segments":{"0":{"type":"crypt""#,
            r#""segments":{"0":{"type":"linear""#,
            r#"segments.0.type is "linear", only "crypt" is accepted"#,
        ),
        (
            "no segment",
            r#""segments":{"0""#,
            r#""segments":{"1""#,
            "segments.0 is missing",
        ),
        (
            "segment that is kept from re-encryption",
            r#""segments":{"0":{"#,
            r#""segments":{"0":{"flags":["backup-final"],"#,
            "segments.0.flags is not a field that is accepted here",
        ),
        (
            "re-encryption keyslot",
            r#""keyslots":{"0":{"type":"luks2""#,
            r#""keyslots":{"0":{"type":"reencrypt","mode":"decrypt""#,
            r#"keyslots.0.type is "reencrypt", only "luks2" is accepted"#,
        ),
        (
            "second keyslot",
            r#""keyslots":{"0""#,
            r#""keyslots":{"1":{"type":"reencrypt"},"0""#,
            "keyslots.1 is not a field that is accepted here",
        ),
        (
            "re-encryption requirement",
            r#""config":{"#,
            r#""config":{"requirements":{"mandatory":["online-reencrypt-v2"]},"#,
            "config.requirements is not a field that is accepted here",
        ),
        (
            "persistent activation flags",
            r#""config":{"#,
            r#""config":{"flags":["allow-discards"],"#,
            "config.flags is not a field that is accepted here",
        ),
        (
            "integrity dropped",
            integrity,
            "",
            "segments.0.integrity is missing",
        ),
        (
            "weaker integrity",
            r#""type":"hmac(sha256)""#,
            r#""type":"crc32c""#,
            r#"segments.0.integrity.type is "crc32c", only "hmac(sha256)" is accepted"#,
        ),
        (
            "integrity without a cipher's key",
            r#""type":"hmac(sha256)""#,
            r#""type":"none""#,
            r#"segments.0.integrity.type is "none", only "hmac(sha256)" is accepted"#,
        ),
        (
            "journal of the host's choosing",
            r#""journal_encryption":"none""#,
            r#""journal_encryption":"cipher_null-ecb""#,
            r#"segments.0.integrity.journal_encryption is "cipher_null-ecb", only "none" is accepted"#,
        ),
        (
            "short volume key",
            r#""key_size":96"#,
            r#""key_size":64"#,
            "keyslots.0.key_size is 64, only 96 to 96 is accepted",
        ),
        (
            "short keyslot key",
            r#""encryption":"aes-xts-plain64","key_size":64"#,
            r#""encryption":"aes-xts-plain64","key_size":32"#,
            "keyslots.0.area.key_size is 32, only 64 to 64 is accepted",
        ),
        (
            "other sector size",
            r#""sector_size":4096"#,
            r#""sector_size":512"#,
            "segments.0.sector_size is 512, only 4096 to 4096 is accepted",
        ),
        (
            "moved sectors",
            r#""iv_tweak":"0""#,
            r#""iv_tweak":"8""#,
            r#"segments.0.iv_tweak is "8", only "0" is accepted"#,
        ),
        (
            "data inside the header",
            r#""offset":"16777216""#,
            r#""offset":"0""#,
            "segments.0.offset is 0, only 16777216 to 16777216 is accepted",
        ),
        (
            "data of a chosen size",
            r#""size":"dynamic""#,
            r#""size":"4096""#,
            r#"segments.0.size is "4096", only "dynamic" is accepted"#,
        ),
        (
            "keyslot over the header",
            r#""offset":"32768""#,
            r#""offset":"0""#,
            "keyslots.0.area.offset is 0, only 32768 to 16392192 is accepted",
        ),
        (
            "keyslot over the data",
            r#""offset":"32768""#,
            r#""offset":"16396288""#,
            "keyslots.0.area.offset is 16396288, only 32768 to 16392192 is accepted",
        ),
        (
            "keyslot beyond everything",
            r#""offset":"32768""#,
            r#""offset":"18446744073709551615""#,
            "keyslots.0.area.offset is 18446744073709551615, only 32768 to 16392192 is accepted",
        ),
        (
            "keyslot offset that does not fit",
            r#""offset":"32768""#,
            r#""offset":"18446744073709551616""#,
            "keyslots.0.area.offset is not a decimal number in a string",
        ),
        (
            "keyslot offset with a sign",
            r#""offset":"32768""#,
            r#""offset":"+32768""#,
            "keyslots.0.area.offset is not a decimal number in a string",
        ),
        (
            "keyslot off a page",
            r#""offset":"32768""#,
            r#""offset":"32769""#,
            "keyslots.0.area.offset is not a multiple of 4096",
        ),
        (
            "huge keyslot",
            r#""size":"385024""#,
            r#""size":"16744448""#,
            "keyslots.0.area.size is 16744448, only 385024 to 385024 is accepted",
        ),
        (
            "few stripes",
            r#""stripes":4000"#,
            r#""stripes":1"#,
            "keyslots.0.af.stripes is 1, only 4000 to 4000 is accepted",
        ),
        (
            "splitter's hash",
            r#""stripes":4000,"hash":"sha256""#,
            r#""stripes":4000,"hash":"crc32""#,
            r#"keyslots.0.af.hash is "crc32", only "sha256" is accepted"#,
        ),
        (
            "no stretching",
            kdf,
            r#""kdf":{"type":"pbkdf2","hash":"sha256","iterations":0"#,
            "keyslots.0.kdf.iterations is 0, only 1000 to 10000000 is accepted",
        ),
        (
            "endless stretching",
            kdf,
            r#""kdf":{"type":"pbkdf2","hash":"sha256","iterations":4294967295"#,
            "keyslots.0.kdf.iterations is 4294967295, only 1000 to 10000000 is accepted",
        ),
        (
            "stretching with a broken hash",
            kdf,
            r#""kdf":{"type":"pbkdf2","hash":"md5","iterations":1000"#,
            r#"keyslots.0.kdf.hash is "md5", only "sha256" is accepted"#,
        ),
        (
            "Argon2 without memory",
            kdf,
            r#""kdf":{"type":"argon2id","time":4,"memory":0,"cpus":4"#,
            "keyslots.0.kdf.memory is 0, only 32 to 1048576 is accepted",
        ),
        (
            "Argon2 with all memory",
            kdf,
            r#""kdf":{"type":"argon2id","time":4,"memory":4194304,"cpus":4"#,
            "keyslots.0.kdf.memory is 4194304, only 32 to 1048576 is accepted",
        ),
        (
            "unknown stretching",
            kdf,
            r#""kdf":{"type":"argon2i","time":4,"memory":65536,"cpus":4"#,
            r#"keyslots.0.kdf.type is "argon2i", only "pbkdf2" or "argon2id" is accepted"#,
        ),
        (
            "short salt",
            "+HfhjcwoSF2XE4KrXgevLhlh+WzVFOsqbV3+4oP3JyM=",
            "AAAA",
            "keyslots.0.kdf.salt is not base64 of 32 bytes",
        ),
        (
            "short digest",
            "ro+cCMMa57K1ic6PFh24FpvNYgZZbGVX80G8biEVI90=",
            "AA==",
            "digests.0.digest is not base64 of 32 bytes",
        ),
        (
            "digest that covers no keyslot",
            r#""keyslots":["0"]"#,
            r#""keyslots":[]"#,
            r#"digests.0.keyslots is another list, only ["0"] is accepted"#,
        ),
        (
            "digest that covers no segment",
            r#""segments":["0"]"#,
            r#""segments":[]"#,
            r#"digests.0.segments is another list, only ["0"] is accepted"#,
        ),
        (
            "digest's hash",
            r#""segments":["0"],"hash":"sha256""#,
            r#""segments":["0"],"hash":"sha1""#,
            r#"digests.0.hash is "sha1", only "sha256" is accepted"#,
        ),
        (
            "second digest",
            r#""digests":{"0""#,
            r#""digests":{"1":{},"0""#,
            "digests.1 is not a field that is accepted here",
        ),
        (
            "foreign token",
            r#""tokens":{}"#,
            r#""tokens":{"0":{"type":"systemd-tpm2","keyslots":["0"]}}"#,
            r#"tokens.0.type is "systemd-tpm2", only "constellation-state-disk" is accepted"#,
        ),
        (
            "second token",
            r#""tokens":{}"#,
            r#""tokens":{"1":{"type":"luks2-keyring","keyslots":["0"],"key_description":"x"}}"#,
            "tokens.1 is not a field that is accepted here",
        ),
        (
            "our token with a keyslot",
            r#""tokens":{}"#,
            r#""tokens":{"0":{"type":"constellation-state-disk","keyslots":["0"],"diskIsInitialized":true}}"#,
            "tokens.0.keyslots is another list, only [] is accepted",
        ),
        (
            "our token with a text for the flag",
            r#""tokens":{}"#,
            r#""tokens":{"0":{"type":"constellation-state-disk","keyslots":[],"diskIsInitialized":"false"}}"#,
            "tokens.0.diskIsInitialized is not true or false",
        ),
        (
            "our token without the flag",
            r#""tokens":{}"#,
            r#""tokens":{"0":{"type":"constellation-state-disk","keyslots":[]}}"#,
            "tokens.0.diskIsInitialized is missing",
        ),
        (
            "unknown field at the top",
            r#""tokens":{}"#,
            r#""tokens":{},"more":1"#,
            "more is not a field that is accepted here",
        ),
        (
            "unknown field below",
            r#""af":{"#,
            r#""af":{"more":1,"#,
            "keyslots.0.af.more is not a field that is accepted here",
        ),
        (
            "keyslot priority",
            r#""key_size":96"#,
            r#""key_size":96,"priority":2"#,
            "keyslots.0.priority is not a field that is accepted here",
        ),
        (
            "key twice, the second one bad",
            segment_cipher,
            r#""iv_tweak":"0","encryption":"aes-xts-plain64","encryption":"cipher_null-ecb""#,
            r#"json is not acceptable JSON: the field \"encryption\" is there twice"#,
        ),
        (
            "key twice, once escaped",
            segment_cipher,
            r#""iv_tweak":"0","encryption":"aes-xts-plain64","\u0065ncryption":"cipher_null-ecb""#,
            r#"json is not acceptable JSON: the field \"encryption\" is there twice"#,
        ),
        (
            "number with a fraction",
            r#""stripes":4000"#,
            r#""stripes":4000.0"#,
            "json is not acceptable JSON: invalid type: floating point",
        ),
        (
            "negative number",
            r#""stripes":4000"#,
            r#""stripes":-4000"#,
            "json is not acceptable JSON: invalid type: integer `-4000`",
        ),
        (
            "null",
            r#""stripes":4000"#,
            r#""stripes":null"#,
            "json is not acceptable JSON: invalid type: null",
        ),
        (
            "text for a number",
            r#""stripes":4000"#,
            r#""stripes":"4000""#,
            "keyslots.0.af.stripes is not a number without sign or fraction",
        ),
        (
            "list for an object",
            r#""tokens":{}"#,
            r#""tokens":[]"#,
            "tokens is not an object",
        ),
        (
            "other JSON size",
            r#""json_size":"12288""#,
            r#""json_size":"4190208""#,
            "config.json_size is 4190208, only 12288 to 12288 is accepted",
        ),
        (
            "other keyslots size",
            r#""keyslots_size":"16744448""#,
            r#""keyslots_size":"0""#,
            "config.keyslots_size is 0, only 16744448 to 16744448 is accepted",
        ),
        (
            "text that garbles a terminal",
            segment_cipher,
            r#""iv_tweak":"0","encryption":"\u001b[2J\u202e""#,
            r#"segments.0.encryption is "\u{1b}[2J\u{202e}", only"#,
        ),
    ] {
        let text = refusal(&replaced(from, to));
        let expected = format!("the LUKS2 header's {expected}");
        assert!(
            text.starts_with(&expected),
            "{attack}:\n is   {text}\n not  {expected}"
        );
    }
}

#[test]
fn attacks_on_the_text_of_the_json() {
    let json = json();
    let starts = |bytes: &[u8], expected: &str| {
        let text = refusal(bytes);
        assert!(
            text.starts_with(&format!("the LUKS2 header's {expected}")),
            "{expected}: {text}"
        );
    };
    starts(&with_json(b""), "json is not acceptable JSON");
    starts(&with_json(b"{"), "json is not acceptable JSON");
    starts(&with_json(b"[]"), "json is not an object");
    starts(
        &with_json(&[b'['; 12_000]),
        "json is not acceptable JSON: recursion limit",
    );
    starts(
        &with_json(&[b' '; 12_288]),
        "json is not shorter than its area",
    );
    // Not UTF-8 inside a string.
    let mut broken = json.clone().into_bytes();
    let at = json.find("crypt").unwrap();
    broken[at] = 0xff;
    starts(
        &with_json(&broken),
        "json is not acceptable JSON: invalid unicode",
    );
    // A second document, after white space and behind the terminating zero.
    starts(
        &with_json(format!("{json} {{}}").as_bytes()),
        "json is not acceptable JSON: trailing characters",
    );
    starts(
        &with_json(format!("{json}\0{{}}").as_bytes()),
        "json is not followed by zeros only",
    );
    // Many fields, of long names: bounded by the area, and the message is short.
    let long = format!("{{\"{}\":1}}", "a".repeat(12_000));
    assert!(refusal(&with_json(long.as_bytes())).len() < 200);
}

#[test]
fn attacks_on_the_binary_header() {
    for (attack, expected, bytes) in [
        (
            "another magic",
            "primary.magic is not that of LUKS",
            with_binary(|header| header[0] = b'X'),
        ),
        (
            "version 1",
            "primary.version is 1, only 2 is accepted",
            with_binary(|header| header[7] = 1),
        ),
        (
            "4 MiB header",
            "primary.size is 4194304, only 16384 is accepted",
            with_binary(|header| header[8..16].copy_from_slice(&0x40_0000_u64.to_be_bytes())),
        ),
        (
            "label",
            r#"primary.label is "x", only "" is accepted"#,
            with_binary(|header| header[24] = b'x'),
        ),
        (
            "text behind the label's end",
            r#"primary.label is "\0x", only "" is accepted"#,
            with_binary(|header| header[25] = b'x'),
        ),
        (
            "no checksum",
            r#"primary.checksum algorithm is "", only "sha256" is accepted"#,
            with_binary(|header| header[72..104].fill(0)),
        ),
        (
            "other checksum",
            r#"primary.checksum algorithm is "crc256", only "sha256" is accepted"#,
            with_binary(|header| header[72..75].copy_from_slice(b"crc")),
        ),
        (
            "unterminated checksum",
            r#"primary.checksum algorithm is "aaaa"#,
            with_binary(|header| header[72..104].fill(b'a')),
        ),
        (
            "upper-case UUID",
            "primary.uuid is not a lower-case UUID with hyphens",
            with_binary(|header| header[168..204].make_ascii_uppercase()),
        ),
        (
            "UUID with more behind it",
            "primary.uuid is not a lower-case UUID with hyphens",
            with_binary(|header| header[207] = b'x'),
        ),
        (
            "no UUID",
            "primary.uuid is not a lower-case UUID with hyphens",
            with_binary(|header| header[168..208].fill(0)),
        ),
        (
            "UUID that is not UTF-8",
            "primary.uuid is not a lower-case UUID with hyphens",
            with_binary(|header| header[168..172].fill(0xff)),
        ),
        (
            "subsystem",
            r#"primary.subsystem is "x", only "" is accepted"#,
            with_binary(|header| header[208] = b'x'),
        ),
        (
            "moved header",
            "primary.offset is 8, only 0 is accepted",
            with_binary(|header| header[263] = 8),
        ),
        (
            "padding",
            "primary.padding is not zero",
            with_binary(|header| header[264] = 1),
        ),
        (
            "padding after the checksum",
            "primary.padding is not zero",
            with_binary(|header| header[4095] = 1),
        ),
        ("long checksum", "primary.padding is not zero", {
            let mut bytes = REAL.to_vec();
            bytes[480] = 1;
            bytes
        }),
        (
            "wrong checksum",
            "primary.checksum does not match the bytes",
            {
                let mut bytes = REAL.to_vec();
                bytes[448] ^= 1;
                bytes
            },
        ),
        (
            "changed JSON",
            "primary.checksum does not match the bytes",
            {
                let mut bytes = REAL.to_vec();
                bytes[4100] ^= 1;
                bytes
            },
        ),
        (
            "wrong checksum of the second copy",
            "secondary.checksum does not match the bytes",
            {
                let mut bytes = REAL.to_vec();
                bytes[COPY_SIZE + 448] ^= 1;
                bytes
            },
        ),
        ("no first copy", "primary.magic is not that of LUKS", {
            let mut bytes = REAL.to_vec();
            bytes[..binary::SIZE].fill(0);
            bytes
        }),
        ("copies swapped", "primary.magic is not that of LUKS", {
            let mut bytes = REAL.to_vec();
            bytes.rotate_left(COPY_SIZE);
            bytes
        }),
        ("first copy twice", "secondary.magic is not that of LUKS", {
            let mut bytes = REAL.to_vec();
            bytes.copy_within(..COPY_SIZE, COPY_SIZE);
            bytes
        }),
    ] {
        let text = refusal(&bytes);
        assert!(
            text.starts_with(&format!("the LUKS2 header's {expected}")),
            "{attack}:\n is   {text}\n not  {expected}"
        );
        assert!(
            VerifiedHeader::is_present(&bytes) || attack == "another magic",
            "{attack}: taken for an empty disk"
        );
    }
}

/// A second copy that is right in itself and says something else: a reader that prefers it would be led elsewhere.
#[test]
fn attacks_on_the_second_copy() {
    let second = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = REAL.to_vec();
        change(&mut bytes[COPY_SIZE..]);
        seal(&mut bytes, Copy::Secondary);
        refusal(&bytes)
    };
    assert_eq!(
        second(&|header| header[23] += 1),
        "the LUKS2 header's secondary.sequence differs from the primary header's"
    );
    assert_eq!(
        second(&|header| header[168] = if header[168] == b'0' { b'1' } else { b'0' }),
        "the LUKS2 header's secondary.uuid differs from the primary header's"
    );
    let mut other = REAL.to_vec();
    let null = replaced(
        r#""iv_tweak":"0","encryption":"aes-xts-plain64""#,
        r#""iv_tweak":"0","encryption":"cipher_null-ecb""#,
    );
    other[COPY_SIZE..].copy_from_slice(&null[COPY_SIZE..]);
    assert_eq!(
        refusal(&other),
        "the LUKS2 header's secondary.json differs from the primary header's"
    );
    // Also where the second copy counts as not yet written.
    other[COPY_SIZE..COPY_SIZE + binary::SIZE].fill(0);
    assert_eq!(
        refusal(&other),
        "the LUKS2 header's secondary.json differs from the primary header's"
    );
}

#[test]
fn a_volume_has_no_integrity_and_no_token() {
    let with =
        |kind, bytes: &[u8]| VerifiedHeader::parse(kind, bytes).map_err(|error| error.to_string());
    assert_eq!(
        with(Kind::Volume, REAL).unwrap_err(),
        "the LUKS2 header's segments.0.integrity is not a field that is accepted here"
    );
    let json = json()
        .replace(r#","integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}"#, "")
        .replace(r#""key_size":96"#, r#""key_size":64"#)
        .replace("385024", "258048");
    let volume = with_json(json.as_bytes());
    let header = with(Kind::Volume, &volume).unwrap();
    assert_eq!(with(Kind::Volume, &header.encode()), Ok(header));
    assert_eq!(
        with(Kind::StateDisk, &volume).unwrap_err(),
        "the LUKS2 header's segments.0.integrity is missing"
    );
    let token = json.replace(r#""tokens":{}"#, r#""tokens":{"0":{"type":"constellation-state-disk","keyslots":[],"diskIsInitialized":true}}"#);
    assert_eq!(
        with(Kind::Volume, &with_json(token.as_bytes())).unwrap_err(),
        "the LUKS2 header's tokens.0 is not a field that is accepted here"
    );
}

#[test]
fn presence() {
    assert!(!VerifiedHeader::is_present(&[]));
    assert!(!VerifiedHeader::is_present(&[0; HEADERS_SIZE]));
    assert!(VerifiedHeader::is_present(REAL));
    assert!(VerifiedHeader::is_present(&REAL[..6]));
    let mut second_only = *REAL;
    second_only[..COPY_SIZE].fill(0);
    assert!(VerifiedHeader::is_present(&second_only));
}

#[test]
fn a_cut_header_is_no_header() {
    for length in [
        0,
        1,
        511,
        512,
        4095,
        4096,
        COPY_SIZE,
        COPY_SIZE + 4096,
        HEADERS_SIZE - 1,
    ] {
        let error = VerifiedHeader::parse(Kind::StateDisk, &REAL[..length]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the LUKS2 header's header is missing",
            "{length}"
        );
    }
}

proptest! {
    /// Any change of any byte that is covered by a checksum is refused; of the checksummed copies nothing is uncovered.
    #[test]
    fn any_flipped_bit_is_refused(at in 0..HEADERS_SIZE, bit in 0..8_u32) {
        let mut bytes = REAL.to_vec();
        bytes[at] ^= 1 << bit;
        prop_assert!(VerifiedHeader::parse(Kind::StateDisk, &bytes).is_err());
    }

    /// Foreign bytes with right checksums: never a panic, and what is accepted can be written and read again.
    #[test]
    fn resealed_bytes_do_not_panic(changes in prop::collection::vec((0..COPY_SIZE, any::<u8>()), 1..8)) {
        let mut bytes = REAL.to_vec();
        for copy in Copy::ALL {
            for (at, byte) in &changes {
                bytes[copy.offset() + at] = *byte;
            }
            seal(&mut bytes, copy);
        }
        bytes[COPY_SIZE..COPY_SIZE + 6].copy_from_slice(binary::magic(Copy::Secondary));
        if let Ok(header) = VerifiedHeader::parse(Kind::StateDisk, &bytes) {
            prop_assert_eq!(VerifiedHeader::parse(Kind::StateDisk, &header.encode()), Ok(header));
        }
    }

    #[test]
    fn foreign_json_does_not_panic(json in prop::collection::vec(any::<u8>(), 0..2000)) {
        let bytes = with_json(&json);
        prop_assert!(VerifiedHeader::parse(Kind::StateDisk, &bytes).is_err());
    }
}
