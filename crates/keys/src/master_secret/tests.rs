//! The file that the original writes is read, and what is not such a file is refused without quoting it.

use super::*;

/// As the original's Go program writes it.
const FILE: &str = r#"{"key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","salt":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="}"#;

#[test]
fn the_originals_file_is_read_and_written_byte_for_byte() {
    let file = MasterSecretFile::parse(FILE.as_bytes()).unwrap();
    assert_eq!(
        file.master_secret.expose_bytes(),
        (0x00..=0x1f).collect::<Vec<u8>>()
    );
    assert_eq!(file.salt.expose_bytes(), (0x20..=0x3f).collect::<Vec<u8>>());
    assert_eq!(*file.expose_json(), FILE);
}

#[test]
fn a_new_file_can_be_read_again() {
    let file = MasterSecretFile::generate().unwrap();
    let again = MasterSecretFile::parse(file.expose_json().as_bytes()).unwrap();
    assert_eq!(file, again);
    assert_ne!(file, MasterSecretFile::generate().unwrap());
}

#[test]
fn refusals_name_the_place_and_quote_nothing() {
    let salt = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    for (json, expected) in [
        ("".to_owned(), "line 1, column 0"),
        (format!(r#"{{"salt":"{salt}"}}"#), "line 1, column"),
        (
            format!(r#"{{"key":"{salt}","key":"{salt}","salt":"{salt}"}}"#),
            "line 1, column",
        ),
        (
            format!(r#"{{"key":"{salt}","salt":"{salt}","more":1}}"#),
            "line 1, column",
        ),
        (
            format!(r#"{{"key":12345678,"salt":"{salt}"}}"#),
            "line 1, column",
        ),
        (
            format!(r#"{{"key":"%%%","salt":"{salt}"}}"#),
            "\"key\" in the master secret file is not base64",
        ),
        (
            format!(r#"{{"key":"{salt}","salt":"*"}}"#),
            "\"salt\" in the master secret file is not base64",
        ),
        (
            format!(r#"{{"key":"AAEC","salt":"{salt}"}}"#),
            "wrong length",
        ),
        (
            format!(r#"{{"key":"{salt}","salt":"AAEC"}}"#),
            "wrong length",
        ),
    ] {
        let error = MasterSecretFile::parse(json.as_bytes()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{json}: {text}");
        assert!(!text.contains("12345678") && !text.contains(salt), "{text}");
    }
}

#[test]
fn lengths() {
    for (length, fits) in [
        (0, false),
        (15, false),
        (16, true),
        (32, true),
        (256, true),
        (257, false),
    ] {
        assert_eq!(
            MasterSecret::from_vec(vec![1; length]).is_ok(),
            fits,
            "{length}"
        );
    }
    for (length, fits) in [
        (0, false),
        (16, false),
        (31, false),
        (32, true),
        (256, true),
        (257, false),
    ] {
        assert_eq!(Salt::from_vec(vec![1; length]).is_ok(), fits, "{length}");
    }
}

#[test]
fn debug_shows_no_byte() {
    let file = MasterSecretFile::parse(FILE.as_bytes()).unwrap();
    assert_eq!(
        format!("{file:?}"),
        "MasterSecretFile { master_secret: MasterSecret(redacted), salt: Salt(redacted) }"
    );
}
