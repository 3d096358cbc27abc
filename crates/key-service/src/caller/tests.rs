use k8s_openapi::api::authentication::v1::UserInfo;

use super::*;

const NOW: Duration = Duration::from_secs(1_000_000);

fn token(payload: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))
}

fn claims(payload: &str) -> Result<Claims, CallerError> {
    Claims::read(&token(payload))
}

#[test]
fn the_header_must_be_a_bearer_token() {
    assert_eq!(bearer(Some(b"Bearer abc")).unwrap(), "abc");
    assert!(matches!(bearer(None), Err(CallerError::Missing)));
    assert!(matches!(
        bearer(Some(b"Bearer ")),
        Err(CallerError::Missing)
    ));
    for bad in [&b"abc"[..], b"Basic abc", b"bearer abc", b"Bearer \xff"] {
        assert!(
            matches!(bearer(Some(bad)), Err(CallerError::Malformed)),
            "{bad:?}"
        );
    }
    let long = [&b"Bearer "[..], &[b'a'; TOKEN_MAX + 1]].concat();
    assert!(matches!(bearer(Some(&long)), Err(CallerError::Malformed)));
}

#[test]
fn a_token_that_says_it_is_not_for_us_or_dead_costs_no_review() {
    let good = claims(r#"{"exp":1000060,"aud":["key-service"]}"#).unwrap();
    good.check(NOW).unwrap();
    claims(r#"{"exp":1000060,"aud":"key-service"}"#)
        .unwrap()
        .check(NOW)
        .unwrap();
    let expired = claims(r#"{"exp":1000000,"aud":["key-service"]}"#).unwrap();
    assert!(matches!(expired.check(NOW), Err(CallerError::Expired)));
    let other = claims(r#"{"exp":1000060,"aud":["api"]}"#).unwrap();
    assert!(matches!(other.check(NOW), Err(CallerError::Audience)));
    // Legacy service account tokens have neither field.
    assert!(matches!(
        claims(r#"{"sub":"system:serviceaccount:kube-system:join-service"}"#),
        Err(CallerError::Audience)
    ));
    for bad in ["", "abc", "a.%%%.b"] {
        assert!(
            matches!(Claims::read(bad), Err(CallerError::Malformed)),
            "{bad:?}"
        );
    }
    assert!(matches!(
        Claims::read("a.bm90IGpzb24.b"),
        Err(CallerError::Audience)
    ));
}

fn status(user: &str) -> TokenReviewStatus {
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec![AUDIENCE.to_owned()]),
        error: None,
        user: Some(UserInfo {
            username: Some(user.to_owned()),
            ..UserInfo::default()
        }),
    }
}

const JOIN_SERVICE: &str = "system:serviceaccount:kube-system:join-service";

#[test]
fn only_a_complete_answer_names_a_caller() {
    assert_eq!(
        verdict(status(JOIN_SERVICE)).unwrap().caller,
        Caller::JoinService
    );
    let not_authenticated = TokenReviewStatus {
        authenticated: Some(false),
        ..status(JOIN_SERVICE)
    };
    assert!(matches!(
        verdict(not_authenticated),
        Err(CallerError::Refused(_))
    ));
    let silent = TokenReviewStatus {
        authenticated: None,
        ..status(JOIN_SERVICE)
    };
    assert!(matches!(verdict(silent), Err(CallerError::Refused(_))));
    for audiences in [
        None,
        Some(vec![]),
        Some(vec!["https://kubernetes.default.svc".to_owned()]),
    ] {
        let unchecked = TokenReviewStatus {
            audiences,
            ..status(JOIN_SERVICE)
        };
        assert!(matches!(verdict(unchecked), Err(CallerError::Audience)));
    }
    for user in [
        "",
        "system:serviceaccount:default:join-service",
        "system:node:worker-0",
        "kubernetes-admin",
    ] {
        assert!(
            matches!(verdict(status(user)), Err(CallerError::Unknown(_))),
            "{user:?}"
        );
    }
    assert!(matches!(
        verdict(TokenReviewStatus::default()),
        Err(CallerError::Refused(_))
    ));
}

fn later(now: Now, time: Duration) -> Now {
    Now {
        wall: now.wall + time,
        steady: now.steady + time,
    }
}

#[test]
fn an_answer_is_remembered_for_a_minute_and_never_longer_than_the_token_lives() {
    let identified = verdict(status(JOIN_SERVICE)).unwrap();
    let mut memory = Remembered::default();
    let begin = Now {
        wall: NOW,
        ..Now::read()
    };
    memory.put(
        hash("long"),
        identified.clone(),
        NOW + Duration::from_secs(3600),
        begin,
    );
    memory.put(
        hash("short"),
        identified.clone(),
        NOW + Duration::from_secs(5),
        begin,
    );
    let after = |seconds| later(begin, Duration::from_secs(seconds));
    assert_eq!(
        memory.get(&hash("long"), after(59)),
        Some(identified.clone())
    );
    assert_eq!(memory.get(&hash("long"), after(60)), None);
    assert_eq!(memory.get(&hash("short"), after(4)), Some(identified));
    assert_eq!(memory.get(&hash("short"), after(5)), None);
    assert_eq!(memory.get(&hash("another"), begin), None);
}

#[test]
fn what_is_remembered_is_bounded() {
    let identified = verdict(status(JOIN_SERVICE)).unwrap();
    let mut memory = Remembered::default();
    let begin = Now {
        wall: NOW,
        ..Now::read()
    };
    for index in 0..REMEMBERED_MAX * 2 {
        memory.put(
            hash(&index.to_string()),
            identified.clone(),
            NOW + Duration::from_secs(3600),
            begin,
        );
    }
    assert_eq!(memory.0.len(), REMEMBERED_MAX);
    memory.put(
        hash("later"),
        identified,
        NOW + Duration::from_secs(3600),
        later(begin, REMEMBER),
    );
    assert_eq!(memory.0.len(), 1, "what no longer holds is dropped");
}

/// The host sets the clock back a year right after an answer was remembered: it is forgotten after a minute all the same, and the API
/// server, which knows whether the caller's pod is still there, is asked again. Set forward, the token itself is dead.
#[test]
fn a_clock_set_back_or_forward_a_year_makes_no_answer_hold_longer() {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let identified = verdict(status(JOIN_SERVICE)).unwrap();
    let begin = Now {
        wall: NOW + YEAR,
        ..Now::read()
    };
    let expiry = begin.wall + Duration::from_secs(3600);
    let mut memory = Remembered::default();
    memory.put(hash("token"), identified.clone(), expiry, begin);
    let set_back = |seconds| Now {
        wall: begin.wall - YEAR,
        ..later(begin, Duration::from_secs(seconds))
    };
    assert_eq!(memory.get(&hash("token"), set_back(59)), Some(identified));
    assert_eq!(memory.get(&hash("token"), set_back(60)), None);

    let claims = Claims {
        expiry,
        for_us: true,
    };
    claims.check(set_back(0).wall).unwrap();
    assert!(matches!(
        claims.check(begin.wall + YEAR),
        Err(CallerError::Expired)
    ));
}
