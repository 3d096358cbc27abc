//! TCB infos and QE identities, as JSON that a test changes before it is signed.

use serde_json::{Value, json};

use super::SigningKey;

fn components(svns: &[u8]) -> Value {
    (0..16)
        .map(|index| json!({ "svn": svns.get(index).copied().unwrap_or(0) }))
        .collect()
}

/// TCB info version 3 for the default platform: up to date with a TDX module of version 1 from SVN 6 on.
#[must_use]
pub fn tcb_info() -> Value {
    let zeros = "0".repeat(96);
    let module = |id: &str, newest: u8| {
        json!({
            "id": id,
            "mrsigner": zeros,
            "attributes": "0000000000000000",
            "attributesMask": "FFFFFFFFFFFFFFFF",
            "tcbLevels": [
                { "tcb": { "isvsvn": newest }, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": "UpToDate" },
                {
                    "tcb": { "isvsvn": 2 },
                    "tcbDate": "2023-08-09T00:00:00Z",
                    "tcbStatus": "OutOfDate",
                    "advisoryIDs": ["INTEL-SA-00002"],
                },
            ],
        })
    };
    json!({
        "id": "TDX",
        "version": 3,
        "issueDate": "2026-01-01T00:00:00Z",
        "nextUpdate": "2026-02-01T00:00:00Z",
        "fmspc": "00806F050000",
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 18,
        "tdxModule": {
            "mrsigner": zeros,
            "attributes": "0000000000000000",
            "attributesMask": "FFFFFFFFFFFFFFFF",
        },
        "tdxModuleIdentities": [module("TDX_03", 3), module("TDX_01", 6)],
        "tcbLevels": [
            {
                "tcb": {
                    "sgxtcbcomponents": components(&[3, 3, 2, 2, 3, 1]),
                    "pcesvn": 13,
                    "tdxtcbcomponents": components(&[6, 0, 8]),
                },
                "tcbDate": "2025-05-14T00:00:00Z",
                "tcbStatus": "UpToDate",
            },
            {
                "tcb": {
                    "sgxtcbcomponents": components(&[2, 2, 2, 2, 2, 1]),
                    "pcesvn": 5,
                    "tdxtcbcomponents": components(&[3, 0, 5]),
                },
                "tcbDate": "2018-01-04T00:00:00Z",
                "tcbStatus": "OutOfDate",
                "advisoryIDs": ["INTEL-SA-00001"],
            },
        ],
    })
}

/// QE identity version 2 that the default quoting enclave has, up to date from SVN 4 on.
#[must_use]
pub fn qe_identity() -> Value {
    json!({
        "id": "TD_QE",
        "version": 2,
        "issueDate": "2026-01-01T00:00:00Z",
        "nextUpdate": "2026-02-01T00:00:00Z",
        "tcbEvaluationDataNumber": 18,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": "dc".repeat(32),
        "isvprodid": 2,
        "tcbLevels": [
            { "tcb": { "isvsvn": 4 }, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": "UpToDate" },
            {
                "tcb": { "isvsvn": 2 },
                "tcbDate": "2023-08-09T00:00:00Z",
                "tcbStatus": "OutOfDate",
                "advisoryIDs": ["INTEL-SA-00003"],
            },
            { "tcb": { "isvsvn": 1 }, "tcbDate": "2023-02-15T00:00:00Z", "tcbStatus": "Revoked" },
        ],
    })
}

/// A statement in the envelope of the service.
pub(super) fn signed(member: &str, body: &Value, key: &SigningKey) -> Vec<u8> {
    let body = body.to_string();
    let signature = hex::encode(key.sign(body.as_bytes()));
    format!(r#"{{"{member}":{body},"signature":"{signature}"}}"#).into_bytes()
}
