//! Fields that documents have besides those of the TPM: bytes, and short lists of bytes, in base64.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{DocumentError, MAX_CERTIFICATES, decoded};

/// A value of a document, and its form in JSON.
pub(crate) trait Field: Sized {
    type Json: Serialize + DeserializeOwned;

    fn read(json: Self::Json, name: &'static str, bound: usize) -> Result<Self, DocumentError>;
    fn write(&self) -> Self::Json;
}

impl Field for Vec<u8> {
    type Json = String;

    fn read(json: String, name: &'static str, bound: usize) -> Result<Self, DocumentError> {
        decoded(name, &json, bound)
    }

    fn write(&self) -> String {
        STANDARD.encode(self)
    }
}

impl Field for Vec<Vec<u8>> {
    type Json = List;

    fn read(json: List, name: &'static str, bound: usize) -> Result<Self, DocumentError> {
        json.0
            .iter()
            .map(|text| decoded(name, text, bound))
            .collect()
    }

    fn write(&self) -> List {
        List(self.iter().map(|bytes| STANDARD.encode(bytes)).collect())
    }
}

/// At most [`MAX_CERTIFICATES`] texts.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct List(Vec<String>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;

        impl<'de> Visitor<'de> for Texts {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_CERTIFICATES} texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(text) = texts.next_element()? {
                    if list.len() == MAX_CERTIFICATES {
                        return Err(A::Error::invalid_length(list.len() + 1, &self));
                    }
                    list.push(text);
                }
                Ok(List(list))
            }
        }

        deserializer.deserialize_seq(Texts)
    }
}
