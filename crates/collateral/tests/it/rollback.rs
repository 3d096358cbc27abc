//! Lists and statements that are taken back, forged, or of a time to come: with real ones of several months.

use std::path::Path;

use attest::{Endorsements, tdx};
use collateral::{
    Bounds, Bundle, Cache, CacheError, CrlUrl, Entry, Item, NotGenuine, OnFailure, PckCa, Reason,
    Refresh, State, Written, add_entries,
};
use testkit::vendors::BadDay;

use crate::lab::{
    DEMAND, Lab, MILAN_CRL, MILAN_CRL_TARGET, NOW, QE_IDENTITY, QE_IDENTITY_TARGET, SET, evidence,
    of_set, tcb_info, time,
};

/// Both in force on 2026-03-17, when the second was a day old and the first had three days to go.
const FEBRUARY: &str = "tdx-collateral/90c06f-2026-02-dcap-qvl";
const MARCH: &str = "tdx-collateral/90c06f-2026-03-attestation-rs";
const PCK_CRL: Item = Item::IntelPckCrl {
    ca: PckCa::Platform,
};

fn cache(directory: &Path) -> Cache {
    Cache::open(&directory.join("c"), Bounds::default()).unwrap()
}

/// An item's files in a set.
fn files(item: &Item, set: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    let file = |name: &str| evidence(&format!("{set}/{name}"));
    match item {
        Item::IntelTcbInfo { .. } => (file("tcb_info.json"), Some(file("tcb_signing_chain.pem"))),
        // the same signer
        Item::IntelQeIdentity { .. } => (
            file("qe_identity.json"),
            Some(file("tcb_signing_chain.pem")),
        ),
        Item::IntelPckCrl { .. } => (file("pck_crl.der"), Some(file("pck_crl_issuer_chain.pem"))),
        Item::IntelRootCrl => (file("root_ca_crl.der"), None),
        other => panic!("{other}"),
    }
}

fn entry_of(item: &Item, set: &str, at: &str) -> Entry {
    let (body, chain) = files(item, set);
    Entry::new(item.clone(), time(at), &body, chain.as_deref()).unwrap()
}

#[test]
fn what_the_publisher_made_later_stays_whenever_it_was_fetched() {
    let now = time("2026-03-17T12:00:00Z");
    for item in [tcb_info(), QE_IDENTITY, PCK_CRL, Item::IntelRootCrl] {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        let march = entry_of(&item, MARCH, "2026-03-17T01:00:00Z");
        let february = entry_of(&item, FEBRUARY, "2026-03-17T11:00:00Z");
        assert!(february.valid_until() > Some(now), "{item}");
        assert_eq!(cache.write(&march, now).unwrap(), Written::New);
        let written = cache.write(&february, now).unwrap();
        assert_eq!(written, Written::Superseded, "{item}");
        assert_eq!(cache.read(&item).unwrap().unwrap(), march, "{item}");
        // and it replaces the older one, even if it came before that
        std::fs::remove_dir_all(cache.directory()).unwrap();
        let cache = crate::rollback::cache(directory.path());
        assert_eq!(cache.write(&february, now).unwrap(), Written::New);
        assert_eq!(cache.write(&march, now).unwrap(), Written::Replaced);
        assert_eq!(cache.read(&item).unwrap().unwrap(), march, "{item}");
    }
}

/// Bundles of several months may be given together, in whatever order.
#[test]
fn of_statements_given_together_those_of_the_time_count() {
    let all = |months: [&str; 2]| -> Vec<Entry> {
        let items = [tcb_info(), QE_IDENTITY, PCK_CRL, Item::IntelRootCrl];
        months
            .into_iter()
            .flat_map(|month| items.iter().map(move |item| (item, month)))
            .map(|(item, month)| entry_of(item, month, "2026-03-17T01:00:00Z"))
            .collect()
    };
    let added = |entries: &[Entry]| {
        let mut endorsements = Endorsements::new();
        add_entries(&mut endorsements, entries).unwrap();
        endorsements
    };
    // a day on which both months' statements hold, and one before the second month's were made
    for (now, expected) in [
        ("2026-03-17T12:00:00Z", MARCH),
        ("2026-03-01T00:00:00Z", FEBRUARY),
    ] {
        let alone = added(&all([expected, expected])[..4]);
        let [alone] = alone.intel() else {
            panic!("{alone:?}");
        };
        for months in [[FEBRUARY, MARCH], [MARCH, FEBRUARY]] {
            let both = added(&all(months));
            let fmspc = Some(alone.claimed_tcb_info().fmspc);
            let about = tdx::Endorsements::about(fmspc, time(now), both.intel(), &[], both.crls());
            let about = about.unwrap();
            assert_eq!(
                about.claimed_tcb_info().issue_date,
                alone.claimed_tcb_info().issue_date,
                "{now} {months:?}"
            );
            assert_eq!(
                about.claimed_qe_identity().issue_date,
                alone.claimed_qe_identity().issue_date,
                "{now} {months:?}"
            );
            // two lists of two months
            assert_eq!(about.lists().len(), 4, "{now} {months:?}");
        }
    }
}

/// A site may give lists of its own beside statements that it got elsewhere.
#[test]
fn lists_without_statements_are_not_lost() {
    let mut endorsements = Endorsements::new();
    let entry = |item: &Item| entry_of(item, MARCH, "2026-03-17T01:00:00Z");
    add_entries(
        &mut endorsements,
        &[entry(&PCK_CRL), entry(&Item::IntelRootCrl)],
    )
    .unwrap();
    assert!(endorsements.intel().is_empty());
    assert_eq!(endorsements.crls().len(), 2);
}

/// Puts an entry into the cache's file, past every check.
fn plant(cache: &Cache, entry: &Entry) {
    let bytes = Bundle::new(entry.fetched_at(), [entry.clone()])
        .unwrap()
        .to_bytes()
        .unwrap();
    let name = entry.item().file_name();
    let (stem, _) = name.rsplit_once('.').unwrap();
    let path = cache.directory().join(format!("{stem}.collateral"));
    std::fs::write(path, bytes).unwrap();
    assert_eq!(cache.read(entry.item()).unwrap().as_ref(), Some(entry));
}

const LIST: &str = "roots/google/gcp-ek-ak-ca-intermediate.crl";
const OF_MAY_2024: &[u8] = b"240507005104Z";

/// Google's list with a part exchanged for one as long: in another's name, of another time. Nobody signed it so.
fn made_up(exchanged: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut der = evidence(LIST);
    for (from, to) in exchanged {
        let place = der.windows(from.len()).position(|w| w == *from).unwrap();
        der[place..place + to.len()].copy_from_slice(to);
    }
    der
}

const STRANGER: (&[u8], &[u8]) = (b"EK/AK CA Root", b"EK/AK CA Stub");

/// Whoever answers in the place of plain http can make a list up. In the name of an authority that is built in it is refused; of another
/// issuer it takes the place of none that is known to be genuine.
#[test]
fn a_forged_list_by_url_neither_keeps_the_genuine_out_nor_takes_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path());
    let item = Item::Crl(CrlUrl::parse("http://pki.goog/cloud_integrity/a.crl").unwrap());
    let entry = |at: &str, exchanged: &[(&[u8], &[u8])]| {
        Entry::new(item.clone(), time(at), &made_up(exchanged), None).unwrap()
    };
    let later: (&[u8], &[u8]) = (OF_MAY_2024, b"260507005104Z");
    let genuine = entry("2026-06-10T02:00:00Z", &[]);
    let forged = entry("2026-06-10T01:00:00Z", &[later]);
    let strangers = entry("2026-06-10T03:00:00Z", &[STRANGER]);
    let strangers_later = entry("2026-06-10T04:00:00Z", &[STRANGER, later]);
    let error = cache.write(&forged, time(NOW)).unwrap_err();
    assert!(
        matches!(
            error,
            CacheError::NotGenuine {
                source: NotGenuine::Crl(_),
                ..
            }
        ),
        "{error:?}"
    );
    for (entry, expected) in [
        (&strangers, Written::New),
        (&genuine, Written::Replaced),
        (&genuine, Written::Kept),
        (&strangers, Written::Unverified),
        (&strangers_later, Written::Unverified),
    ] {
        assert_eq!(cache.write(entry, time(NOW)).unwrap(), expected);
    }
    assert_eq!(cache.read(&item).unwrap(), Some(genuine.clone()));
    // one that lies there and claims to be newer than what comes
    plant(&cache, &strangers_later);
    assert_eq!(cache.write(&genuine, time(NOW)).unwrap(), Written::Replaced);
}

/// Of lists whose issuer nobody knows the one counts that was fetched last, whatever they say of their time: so a bundle brings none back
/// that was fetched before.
#[test]
fn of_lists_of_unknown_issuers_the_latest_fetch_counts() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path());
    let item = Item::Crl(CrlUrl::parse("http://example.com/a.crl").unwrap());
    let entry = |at: &str, year: &[u8]| {
        let body = made_up(&[STRANGER, (b"240507", year)]);
        Entry::new(item.clone(), time(at), &body, None).unwrap()
    };
    let there = entry("2026-06-10T02:00:00Z", b"240507");
    for (entry, expected) in [
        (&there, Written::New),
        (&entry("2026-06-10T01:00:00Z", b"230507"), Written::Kept),
        (&entry("2026-06-10T01:00:00Z", b"250507"), Written::Kept),
        (&entry("2026-06-10T03:00:00Z", b"230507"), Written::Replaced),
        (&entry("2026-06-10T04:00:00Z", b"250507"), Written::Replaced),
    ] {
        assert_eq!(cache.write(entry, time(NOW)).unwrap(), expected);
    }
}

/// Plain http is anybody's.
#[tokio::test]
async fn a_made_up_answer_does_not_take_a_genuine_list_away() {
    let lab = Lab::new().await;
    let collateral = lab.collateral();
    let item = lab.listed("/lists/a.crl");
    collateral.get(&item, DEMAND).await.unwrap();
    lab.set_clock("2026-06-16T12:00:00Z");
    let bad = || BadDay::Body(made_up(&[STRANGER, (b"240507", b"260507")]));
    lab.vendors.spoil("/lists/a.crl", [bad(), bad()]);
    let error = collateral.get(&item, DEMAND).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Unverified), "{error:?}");
    let stale = collateral::Demand {
        on_failure: OnFailure::Stale,
        ..DEMAND
    };
    let answer = collateral.get(&item, stale).await.unwrap();
    assert_eq!(answer.entry.body(), evidence(LIST));
    assert_eq!((answer.state, answer.is_new), (State::Stale, false));
    assert_eq!(answer.notes.len(), 1, "{:?}", answer.notes);
    assert_eq!(lab.cache().read(&item).unwrap(), Some(answer.entry));
}

#[test]
fn what_is_of_a_time_to_come_is_refused_and_what_clocks_differ_by_is_not() {
    let google = CrlUrl::parse("http://pki.goog/cloud_integrity/a.crl").unwrap();
    let listed = Item::Crl(google);
    let google = evidence("roots/google/gcp-ek-ak-ca-intermediate.crl");
    let milan = evidence("roots/amd-crl/crl-milan-2022-05-09.der");
    let early = "2020-01-01T00:00:00Z";
    let plain = |item: &Item, body: &[u8]| Entry::new(item.clone(), time(early), body, None);
    for (entry, too_early, soon_enough) in [
        (
            plain(&MILAN_CRL, &milan).unwrap(),
            "2022-05-09T17:02:44Z",
            "2022-05-09T17:02:45Z",
        ),
        (
            plain(&listed, &google).unwrap(),
            "2024-05-07T00:46:03Z",
            "2024-05-07T00:46:04Z",
        ),
        (
            entry_of(&tcb_info(), SET, early),
            "2026-06-08T11:27:34Z",
            "2026-06-08T11:27:35Z",
        ),
        (
            entry_of(&QE_IDENTITY, SET, early),
            "2026-06-08T11:23:47Z",
            "2026-06-08T11:23:48Z",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        let error = cache.write(&entry, time(too_early)).unwrap_err();
        assert!(
            matches!(
                error,
                CacheError::NotGenuine {
                    source: NotGenuine::NotYetValid { .. },
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(cache.list().unwrap().is_empty());
        let written = cache.write(&entry, time(soon_enough)).unwrap();
        assert_eq!(written, Written::New);
    }
}

/// Real bytes with something wrong about the signature.
fn forgeries() -> Vec<(&'static str, Entry)> {
    let last_flipped = |mut bytes: Vec<u8>| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    // within the signer's own signature, which ends just before the line that ends it
    let other_signer = |pem: Vec<u8>| {
        let text = String::from_utf8(pem).unwrap();
        let end = text.find("-----END").unwrap();
        let at = text[..end].trim_end().len() - 12;
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        format!("{}{other}{}", &text[..at], &text[at + 1..]).into_bytes()
    };
    let make = |item: &Item, body: &[u8], chain: Option<&[u8]>| {
        Entry::new(item.clone(), time("2026-06-14T00:00:00Z"), body, chain).unwrap()
    };
    let milan = evidence("roots/amd-crl/crl-milan-2022-05-09.der");
    let mut made = vec![
        ("AMD's list", make(&MILAN_CRL, &last_flipped(milan), None)),
        (
            "the root's list",
            make(
                &Item::IntelRootCrl,
                &last_flipped(of_set("root_ca_crl.der")),
                None,
            ),
        ),
    ];
    let (list, chain) = files(&PCK_CRL, SET);
    let chain = chain.unwrap();
    let flipped = last_flipped(list.clone());
    made.push(("the CA's list", make(&PCK_CRL, &flipped, Some(&chain))));
    let strange = other_signer(chain);
    made.push(("another CA", make(&PCK_CRL, &list, Some(&strange))));
    for item in [tcb_info(), QE_IDENTITY] {
        let (body, chain) = files(&item, SET);
        let chain = chain.unwrap();
        let later = String::from_utf8(body.clone()).unwrap().replacen(
            "\"nextUpdate\":\"2026-07",
            "\"nextUpdate\":\"2036-07",
            1,
        );
        assert_ne!(later.as_bytes(), body);
        let changed = make(&item, later.as_bytes(), Some(&chain));
        made.push(("a changed statement", changed));
        let strange = other_signer(chain);
        made.push(("another signer", make(&item, &body, Some(&strange))));
    }
    made
}

#[test]
fn what_its_issuer_did_not_sign_is_refused() {
    for (what, entry) in forgeries() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        let error = cache.write(&entry, time(NOW)).unwrap_err();
        let CacheError::NotGenuine { source, .. } = error else {
            panic!("{what}: {error:?}");
        };
        let is_expected = match what {
            "a changed statement" => matches!(source, NotGenuine::Statement(_)),
            "another signer" | "another CA" => matches!(source, NotGenuine::Signer(_)),
            _ => matches!(source, NotGenuine::Crl(_)),
        };
        assert!(is_expected, "{what}: {source:?}");
        assert!(cache.list().unwrap().is_empty(), "{what}");
    }
}

/// However one came into the directory, say by an older release.
#[test]
fn a_forged_one_that_is_there_does_not_keep_the_genuine_out() {
    let now = time(NOW);
    // fetched before the forged one, and the same list by what it says
    for (what, forged) in forgeries() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(directory.path());
        plant(&cache, &forged);
        let item = forged.item().clone();
        let genuine = if item == MILAN_CRL {
            let milan = evidence("roots/amd-crl/crl-milan-2022-05-09.der");
            Entry::new(item, time("2026-06-10T00:00:00Z"), &milan, None).unwrap()
        } else {
            entry_of(&item, SET, "2026-06-10T00:00:00Z")
        };
        let written = cache.write(&genuine, now).unwrap();
        assert_eq!(written, Written::Replaced, "{what}");
        assert_eq!(cache.read(genuine.item()).unwrap(), Some(genuine), "{what}");
    }
    // a later one by what it says
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path());
    let milan = evidence("roots/amd-crl/crl-milan-2022-05-09.der");
    let mut later = milan.clone();
    let at = later.windows(6).position(|w| w == b"220509").unwrap();
    later[at + 1] = b'3';
    plant(&cache, &Entry::new(MILAN_CRL, now, &later, None).unwrap());
    let genuine = Entry::new(MILAN_CRL, now, &milan, None).unwrap();
    assert_eq!(cache.write(&genuine, now).unwrap(), Written::Replaced);
}

#[test]
fn a_fetch_that_is_said_to_come_is_now() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path());
    let (now, soon) = (time(NOW), time("2026-06-15T00:01:00Z"));
    let ahead = entry_of(&QE_IDENTITY, SET, "2026-06-15T00:04:59Z");
    assert_eq!(cache.write(&ahead, now).unwrap(), Written::New);
    let there = cache.read(&QE_IDENTITY).unwrap().unwrap();
    assert_eq!(there.fetched_at(), now);
    // so what is fetched a minute later is later
    let fetched = entry_of(&QE_IDENTITY, SET, "2026-06-15T00:01:00Z");
    assert_eq!(cache.write(&fetched, soon).unwrap(), Written::Replaced);
}

#[tokio::test]
async fn a_service_that_takes_a_statement_back_is_not_followed() {
    let lab = Lab::new().await;
    let collateral = lab.collateral();
    collateral.get(&QE_IDENTITY, DEMAND).await.unwrap();
    let (march, _) = files(&QE_IDENTITY, MARCH);
    let older = || BadDay::Body(march.clone());
    lab.vendors.spoil(QE_IDENTITY_TARGET, [older(), older()]);
    let again = collateral::Demand {
        refresh: Refresh::Always,
        ..DEMAND
    };
    let error = collateral.get(&QE_IDENTITY, again).await.unwrap_err();
    let Reason::Superseded { came, there } = error.reason() else {
        panic!("{error:?}");
    };
    assert_eq!(*came, Some(time("2026-03-16T22:16:03Z")));
    assert_eq!(*there, Some(time("2026-06-08T11:28:48Z")));
    let stale = collateral::Demand {
        on_failure: OnFailure::Stale,
        ..again
    };
    let answer = collateral.get(&QE_IDENTITY, stale).await.unwrap();
    assert_eq!(answer.entry.body(), of_set("qe_identity.json"));
    assert_eq!((answer.state, answer.is_new), (State::Fresh, false));
    let there = lab.cache().read(&QE_IDENTITY).unwrap().unwrap();
    assert_eq!(there.body(), of_set("qe_identity.json"));
    // who has nothing newer can not know
    lab.set_clock("2026-03-18T00:00:00Z");
    std::fs::remove_dir_all(lab.cache_path()).unwrap();
    lab.vendors.spoil(QE_IDENTITY_TARGET, [older()]);
    let answer = lab.collateral().get(&QE_IDENTITY, DEMAND).await.unwrap();
    assert_eq!(answer.entry.body(), march);
}

#[tokio::test]
async fn a_forged_answer_is_not_used() {
    let lab = Lab::new().await;
    let mut forged = evidence("roots/amd-crl/crl-milan-2022-05-09.der");
    *forged.last_mut().unwrap() ^= 1;
    let bad = || BadDay::Body(forged.clone());
    lab.vendors.spoil(MILAN_CRL_TARGET, [bad(), bad(), bad()]);
    let error = lab.collateral().get(&MILAN_CRL, DEMAND).await.unwrap_err();
    assert!(
        matches!(error.reason(), Reason::NotGenuine(NotGenuine::Crl(_))),
        "{error:?}"
    );
    assert!(lab.cache().list().unwrap().is_empty());
}
