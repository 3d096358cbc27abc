//! Asking vendors: once, in time, patiently, and for nothing else than what was asked.

use std::time::{Duration, Instant};

use collateral::{
    Demand, FetchError, Item, Note, OnFailure, PckCa, Product, Reason, Refresh, Signer, State,
};
use testkit::vendors::BadDay;

use crate::lab::{
    DEMAND, Lab, MILAN_CRL, MILAN_CRL_TARGET, QE_IDENTITY, QE_IDENTITY_TARGET, TCB_INFO_TARGET,
    VCEK_TARGET, evidence, of_set, pem, tcb_info, vcek, vcek_bytes,
};

async fn failure(lab: &Lab, item: &Item) -> FetchError {
    lab.collateral().get(item, DEMAND).await.unwrap_err()
}

#[tokio::test]
async fn every_kind_of_item_is_fetched_with_its_signers_chain() {
    let lab = Lab::new().await;
    let collateral = lab.collateral();
    let chain = |signer| Item::AmdChain {
        product: Product::Genoa,
        signer,
    };
    for (item, body, issuer_chain) in [
        (vcek(), vcek_bytes(), None),
        (
            chain(Signer::Vcek),
            pem(&["roots/amd/ask-genoa.der", "roots/amd/ark-genoa.der"]),
            None,
        ),
        (
            chain(Signer::Vlek),
            pem(&["roots/amd/asvk-genoa.der", "roots/amd/ark-genoa.der"]),
            None,
        ),
        (
            tcb_info(),
            of_set("tcb_info.json"),
            Some(of_set("tcb_signing_chain.pem")),
        ),
        (
            QE_IDENTITY,
            of_set("qe_identity.json"),
            Some(of_set("qe_identity_signing_chain.pem")),
        ),
        (
            Item::IntelPckCrl {
                ca: PckCa::Platform,
            },
            of_set("pck_crl.der"),
            Some(of_set("pck_crl_issuer_chain.pem")),
        ),
        (Item::IntelRootCrl, of_set("root_ca_crl.der"), None),
        (
            lab.listed("/lists/a.crl"),
            evidence("roots/google/gcp-ek-ak-ca-intermediate.crl"),
            None,
        ),
    ] {
        let answer = collateral.get(&item, DEMAND).await.unwrap();
        assert_eq!(answer.entry.item(), &item);
        assert_eq!(answer.entry.body(), body, "{item}");
        assert_eq!(
            answer.entry.issuer_chain(),
            issuer_chain.as_deref(),
            "{item}"
        );
        assert!(answer.is_new && answer.notes.is_empty(), "{answer:?}");
    }
}

#[tokio::test]
async fn a_hundred_who_ask_at_once_cost_one_request() {
    let lab = Lab::new().await;
    lab.vendors
        .spoil(VCEK_TARGET, [BadDay::Slow(Duration::from_millis(300))]);
    let collateral = lab.collateral();
    let asks = (0..100).map(|_| {
        let collateral = collateral.clone();
        tokio::spawn(async move { collateral.get(&vcek(), DEMAND).await.unwrap() })
    });
    let asks: Vec<_> = asks.collect();
    for ask in asks {
        assert_eq!(ask.await.unwrap().entry.body(), vcek_bytes());
    }
    assert_eq!(lab.vendors.count(VCEK_TARGET), 1);
    // and later ones cost none
    let answer = lab.collateral().get(&vcek(), DEMAND).await.unwrap();
    assert!(!answer.is_new);
    assert_eq!(lab.vendors.count(VCEK_TARGET), 1);
}

#[tokio::test]
async fn a_failure_is_everybodys_and_the_next_ask_begins_anew() {
    let lab = Lab::new().await;
    lab.vendors.spoil(VCEK_TARGET, [BadDay::Page]);
    let collateral = lab.collateral();
    let item = vcek();
    let (one, other) = tokio::join!(collateral.get(&item, DEMAND), collateral.get(&item, DEMAND));
    for failed in [one, other] {
        assert!(matches!(
            failed.unwrap_err().reason(),
            Reason::ContentType(_)
        ));
    }
    assert_eq!(lab.vendors.count(VCEK_TARGET), 1);
    collateral.get(&item, DEMAND).await.unwrap();
}

#[tokio::test]
async fn who_has_no_time_does_not_end_the_wait_of_others() {
    let lab = Lab::new().await;
    lab.vendors
        .spoil(VCEK_TARGET, [BadDay::Slow(Duration::from_millis(500))]);
    let collateral = lab.collateral();
    let item = vcek();
    let hasty = Demand {
        deadline: Duration::from_millis(100),
        ..DEMAND
    };
    let (hasty, patient) =
        tokio::join!(collateral.get(&item, hasty), collateral.get(&item, DEMAND));
    assert!(matches!(hasty.unwrap_err().reason(), Reason::Deadline(_)));
    patient.unwrap();
    assert_eq!(lab.vendors.count(VCEK_TARGET), 1);
}

#[tokio::test]
async fn a_service_that_limits_is_not_asked_faster_than_it_allows() {
    let mut lab = Lab::new().await;
    let interval = Duration::from_millis(400);
    lab.vendors.limit("/vcek/v1/Turin/", interval);
    lab.settings.pace.amd_vcek = interval + Duration::from_millis(50);
    let collateral = lab.collateral();
    for _ in 0..3 {
        let anew = Demand {
            refresh: Refresh::Always,
            ..DEMAND
        };
        collateral.get(&vcek(), anew).await.unwrap();
    }
    let statuses: Vec<_> = lab.vendors.requests().iter().map(|r| r.status).collect();
    assert_eq!(statuses, [200, 200, 200]);
}

#[tokio::test]
async fn a_429_is_honoured_for_as_long_as_it_says() {
    let lab = Lab::new().await;
    lab.vendors
        .spoil(VCEK_TARGET, [BadDay::Status(429, Some("1".to_owned()))]);
    let begun = Instant::now();
    lab.collateral().get(&vcek(), DEMAND).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let requests = lab.vendors.requests();
    assert_eq!(
        requests.iter().map(|r| r.status).collect::<Vec<_>>(),
        [429, 200]
    );
}

#[tokio::test]
async fn a_429_that_asks_for_an_hour_is_told_at_once() {
    let lab = Lab::new().await;
    lab.vendors
        .spoil(VCEK_TARGET, [BadDay::Status(429, Some("3600".to_owned()))]);
    let begun = Instant::now();
    let error = failure(&lab, &vcek()).await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(
        matches!(error.reason(), Reason::RateLimited(Some(pause)) if pause.as_secs() == 3600),
        "{error:?}"
    );
    assert_eq!(lab.vendors.requests().len(), 1);
    assert!(error.hint().contains("bundle"));
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    for (day, attempts) in [
        (BadDay::Status(500, None), 2),
        (BadDay::Status(429, None), 2),
        (BadDay::HangUp, 2),
        (BadDay::CutOff(100), 2),
        (BadDay::Body(b"not a certificate".to_vec()), 2),
        (BadDay::Status(404, None), 1),
        (BadDay::Status(403, None), 1),
        (BadDay::Page, 1),
        (BadDay::Redirect("/elsewhere".to_owned()), 1),
        (BadDay::Endless, 1),
        (BadDay::Packed, 1),
    ] {
        let lab = Lab::new().await;
        lab.vendors.spoil(VCEK_TARGET, [day.clone()]);
        let outcome = lab.collateral().get(&vcek(), DEMAND).await;
        assert_eq!(lab.vendors.requests().len(), attempts, "{day:?}");
        assert_eq!(outcome.is_ok(), attempts == 2, "{day:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn attempts_end() {
    let lab = Lab::new().await;
    let down = || BadDay::Status(502, None);
    lab.vendors
        .spoil(VCEK_TARGET, [down(), down(), down(), down()]);
    let error = failure(&lab, &vcek()).await;
    assert!(matches!(error.reason(), Reason::Status(502)), "{error:?}");
    assert_eq!(lab.vendors.requests().len(), 3);
}

#[tokio::test]
async fn a_slow_answer_has_an_end() {
    let mut lab = Lab::new().await;
    lab.settings.retries.attempt = Duration::from_millis(200);
    lab.settings.retries.attempts = 1;
    lab.vendors
        .spoil(VCEK_TARGET, [BadDay::Slow(Duration::from_secs(30))]);
    let begun = Instant::now();
    let error = failure(&lab, &vcek()).await;
    assert!(matches!(error.reason(), Reason::Slow(_)), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_answer_without_end_is_left_at_the_bound() {
    let lab = Lab::new().await;
    lab.vendors.spoil(VCEK_TARGET, [BadDay::Endless]);
    let error = failure(&lab, &vcek()).await;
    let limit = vcek().limit();
    assert!(
        matches!(error.reason(), Reason::TooLarge(bound) if *bound == limit),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let lab = Lab::new().await;
    lab.vendors.spoil(
        MILAN_CRL_TARGET,
        [BadDay::Redirect("/lists/a.crl".to_owned())],
    );
    let error = failure(&lab, &MILAN_CRL).await;
    assert!(
        matches!(error.reason(), Reason::Redirected(302)),
        "{error:?}"
    );
    assert_eq!(lab.vendors.count("/lists/a.crl"), 0);
}

#[tokio::test]
async fn what_was_not_asked_for_is_refused() {
    let milan = evidence("snp-vcek/virtee-sev/milan-v2/vek.der");
    let other_chain = pem(&["roots/amd/ask-milan.der", "roots/amd/ark-milan.der"]);
    let other_crl = evidence("roots/amd-crl/crl-genoa-2022-10-31.der");
    let text = |name| String::from_utf8(of_set(name)).unwrap();
    let genoa = Item::AmdChain {
        product: Product::Genoa,
        signer: Signer::Vcek,
    };
    let genoa_target = "/vcek/v1/Genoa/cert_chain";
    for (item, target, body, words) in [
        (
            vcek(),
            VCEK_TARGET,
            milan,
            "the issuer is SEV-Milan, not SEV-Turin",
        ),
        (
            genoa.clone(),
            genoa_target,
            other_chain,
            "the first subject is SEV-Milan, not SEV-Genoa",
        ),
        (
            genoa,
            genoa_target,
            pem(&["roots/amd/ask-genoa.der"]),
            "1 certificates in place of 2",
        ),
        (
            MILAN_CRL,
            MILAN_CRL_TARGET,
            other_crl,
            "the list's issuer is ARK-Genoa, not ARK-Milan",
        ),
        (
            tcb_info(),
            TCB_INFO_TARGET,
            text("tcb_info.json")
                .replace("90C06F000000", "50806F000000")
                .into_bytes(),
            "the FMSPC is 50806F000000, not 90C06F000000",
        ),
        (
            tcb_info(),
            TCB_INFO_TARGET,
            text("tcb_info.json")
                .replacen("\"id\":\"TDX\"", "\"id\":\"SGX\"", 1)
                .into_bytes(),
            "the kind of TCB info is SGX, not TDX",
        ),
        (
            tcb_info(),
            TCB_INFO_TARGET,
            text("tcb_info.json")
                .replace("\"signature\":\"", "\"signature\":\"00")
                .into_bytes(),
            "the document's signature is not 64 bytes in hexadecimal",
        ),
        (
            QE_IDENTITY,
            QE_IDENTITY_TARGET,
            text("qe_identity.json").replace("TD_QE", "QE").into_bytes(),
            "the enclave is QE, not TD_QE",
        ),
    ] {
        let lab = Lab::new().await;
        let bad = || BadDay::Body(body.clone());
        lab.vendors.spoil(target, [bad(), bad(), bad()]);
        let error = failure(&lab, &item).await;
        let Reason::Shape(shape) = error.reason() else {
            panic!("{item}: {error:?}");
        };
        assert_eq!(shape.to_string(), words, "{item}");
        assert!(lab.cache().list().unwrap().is_empty());
    }
}

/// Each field of a VCEK that names it, changed in a real certificate: nothing here looks at the signature.
#[tokio::test]
async fn a_certificate_of_another_chip_or_level_is_refused() {
    let real = vcek_bytes();
    let extension = |oid: &[u8], value: &[u8]| -> usize {
        let at = real.windows(oid.len()).position(|w| w == oid).unwrap();
        let value_at = real[at..].windows(value.len()).position(|w| w == value);
        at + value_at.unwrap() + value.len() - 1
    };
    let level = |number: u8, value: u8| {
        let oid = [0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1, 3, number];
        extension(&oid, &[2, 1, value])
    };
    let chip = extension(
        &[0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1, 4],
        &hex::decode("59790fb1c39f35c1").unwrap(),
    );
    let product = extension(&[0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1, 2], b"Tur");
    for (at, what) in [
        (
            level(9, 1),
            "the TCB version is fmc=3,bl=1,tee=1,snp=4,ucode=81,",
        ),
        (
            level(1, 1),
            "the TCB version is fmc=1,bl=3,tee=1,snp=4,ucode=81,",
        ),
        (
            level(2, 1),
            "the TCB version is fmc=1,bl=1,tee=3,snp=4,ucode=81,",
        ),
        (
            level(3, 4),
            "the TCB version is fmc=1,bl=1,tee=1,snp=6,ucode=81,",
        ),
        (
            level(8, 0x51),
            "the TCB version is fmc=1,bl=1,tee=1,snp=4,ucode=83,",
        ),
        (chip, "the chip"),
        (product, "the product line is Tupin, not Turin"),
    ] {
        let mut changed = real.clone();
        changed[at] ^= 2;
        let error =
            collateral::Entry::new(vcek(), crate::lab::time(crate::lab::NOW), &changed, None)
                .unwrap_err();
        assert!(error.to_string().starts_with(what), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_statement_without_its_signers_chain_is_refused() {
    let lab = Lab::new().await;
    let bare = || BadDay::NoHeaders;
    lab.vendors
        .spoil(QE_IDENTITY_TARGET, [bare(), bare(), bare()]);
    let error = failure(&lab, &QE_IDENTITY).await;
    assert!(
        matches!(
            error.reason(),
            Reason::Header("SGX-Enclave-Identity-Issuer-Chain")
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn lists_are_fetched_from_allowed_places_only() {
    let lab = Lab::new().await;
    let google = evidence("roots/google/gcp-ek-ak-ca-intermediate.crl");
    lab.vendors
        .publish("/other/a.crl", "application/pkix-crl", &[], &google);
    let error = failure(&lab, &lab.listed("/other/a.crl")).await;
    assert!(matches!(error.reason(), Reason::NotAllowed), "{error:?}");
    assert!(lab.vendors.requests().is_empty());
}

#[tokio::test]
async fn an_item_is_fresh_until_its_next_update_or_its_age() {
    let lab = Lab::new().await;
    let collateral = lab.collateral();
    collateral.get(&QE_IDENTITY, DEMAND).await.unwrap();
    for (now, requests) in [
        ("2026-06-15T23:59:00Z", 1),
        ("2026-06-16T00:00:00Z", 2),
        // the document's next update
        ("2026-07-08T11:28:00Z", 3),
        ("2026-07-08T11:28:48Z", 4),
    ] {
        lab.set_clock(now);
        collateral.get(&QE_IDENTITY, DEMAND).await.unwrap();
        assert_eq!(lab.vendors.count(QE_IDENTITY_TARGET), requests, "{now}");
    }
}

#[tokio::test]
async fn what_is_stale_is_had_only_by_who_asks_for_that_and_is_never_deleted() {
    let lab = Lab::new().await;
    let collateral = lab.collateral();
    collateral.get(&QE_IDENTITY, DEMAND).await.unwrap();
    lab.set_clock("2026-06-20T00:00:00Z");
    let page = || BadDay::Page;
    lab.vendors.spoil(QE_IDENTITY_TARGET, [page(), page()]);
    let error = collateral.get(&QE_IDENTITY, DEMAND).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::ContentType(_)));
    let stale = Demand {
        on_failure: OnFailure::Stale,
        ..DEMAND
    };
    let answer = collateral.get(&QE_IDENTITY, stale).await.unwrap();
    assert_eq!(answer.state, State::Stale);
    assert_eq!(answer.entry.body(), of_set("qe_identity.json"));
    assert!(matches!(answer.notes.as_slice(), [Note::Refused(_)]));
    // the service is well again
    let answer = collateral.get(&QE_IDENTITY, stale).await.unwrap();
    assert_eq!((answer.state, answer.is_new), (State::Fresh, true));
}

#[tokio::test]
async fn without_the_network_the_cache_is_all_there_is() {
    let mut lab = Lab::new().await;
    lab.collateral().get(&QE_IDENTITY, DEMAND).await.unwrap();
    lab.settings.network = false;
    let collateral = lab.collateral();
    collateral.get(&QE_IDENTITY, DEMAND).await.unwrap();
    let error = collateral.get(&vcek(), DEMAND).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Offline), "{error:?}");
    assert_eq!(lab.vendors.requests().len(), 1);
}

#[tokio::test]
async fn an_error_says_who_what_and_what_to_do() {
    let lab = Lab::new().await;
    lab.vendors
        .spoil(MILAN_CRL_TARGET, [BadDay::Status(404, None)]);
    let error = failure(&lab, &MILAN_CRL).await;
    assert_eq!(
        error.to_string(),
        "amd-crl/milan/vcek could not be had from AMD's key distribution service"
    );
    assert_eq!(
        error.reason().to_string(),
        "the service does not know it (status 404)"
    );
    assert!(!error.hint().is_empty());
}
