use std::{
    net::SocketAddr,
    sync::{
        Condvar,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use attest::Variant;
use tokio::task::{JoinSet, yield_now};

use super::*;

/// Counts the statements it makes and how many at once, waits while it is shut, and fails on request.
#[derive(Default)]
struct Device {
    begun: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    broken: AtomicBool,
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Device {
    fn shut() -> Shut {
        Shut(Arc::new(Self {
            is_shut: Mutex::new(true),
            ..Self::default()
        }))
    }

    fn open(&self) {
        *self.is_shut.lock().unwrap() = false;
        self.opened.notify_all();
    }
}

/// A device that is shut, and open again at the end of its test: a thread that waits for it would keep one that fails from
/// ending.
struct Shut(Arc<Device>);

impl Drop for Shut {
    fn drop(&mut self) {
        self.0.open();
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("it does not hang")
}

impl Issue for Device {
    fn variant(&self) -> Variant {
        Variant::QemuVtpm
    }

    fn issue(&self, binding: &Binding) -> Result<Evidence, IssueError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(IssueError::new(Variant::QemuVtpm, "TPM_RC_FAILURE"));
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let is_shut = self.is_shut.lock().unwrap();
        drop(self.opened.wait_while(is_shut, |shut| *shut).unwrap());
        self.now.fetch_sub(1, Ordering::SeqCst);
        Ok(Evidence::new(Variant::QemuVtpm, binding.as_bytes().to_vec()).unwrap())
    }
}

fn source(number: u8) -> Source {
    SocketAddr::from(([10, 0, 0, number], 1)).into()
}

fn evidences(device: &Arc<Device>) -> Evidences {
    let issuer: Arc<dyn Issue> = Arc::<Device>::clone(device);
    Evidences::new(issuer, &runtime::Context::new("test"))
}

/// A call of each of these sources at once.
fn calls(
    evidences: &Evidences,
    from: impl IntoIterator<Item = u8>,
) -> JoinSet<Result<Evidence, EvidenceError>> {
    let mut calls = JoinSet::new();
    for number in from {
        let evidences = evidences.clone();
        calls.spawn(async move { evidences.make(&[number; 32], source(number)).await });
    }
    calls
}

#[tokio::test]
async fn a_flood_is_served_one_by_one_and_the_rest_is_turned_away() {
    let shut = Device::shut();
    let device = &shut.0;
    let evidences = evidences(device);
    let begun = Instant::now();
    let mut calls = calls(&evidences, 0..u8::try_from(QUEUE * 3).unwrap());
    for _ in QUEUE..QUEUE * 3 {
        let turned_away = in_time(calls.join_next()).await.unwrap().unwrap();
        assert!(matches!(turned_away, Err(EvidenceError::Busy)));
    }
    device.open();
    let served = calls.join_all().await;
    assert_eq!(served.len(), QUEUE);
    assert!(served.iter().all(Result::is_ok));
    assert_eq!(
        device.most.load(Ordering::SeqCst),
        1,
        "the TPM was asked for two statements at once"
    );
    assert!(
        begun.elapsed() >= PACE * (u32::try_from(QUEUE).unwrap() - 1),
        "statements were not paced"
    );
    assert_eq!(evidences.counts.turned_away.get(), QUEUE as u64 * 2);
    assert!(
        evidences.make(&[0; 32], source(0)).await.is_ok(),
        "the queue must be free again"
    );
}

#[tokio::test]
async fn one_source_leaves_places_to_others() {
    let shut = Device::shut();
    let device = &shut.0;
    let evidences = evidences(device);
    let mut flood = calls(&evidences, [1; QUEUE]);
    for _ in PER_SOURCE..QUEUE {
        let turned_away = in_time(flood.join_next()).await.unwrap().unwrap();
        assert!(matches!(turned_away, Err(EvidenceError::Busy)));
    }
    let other = calls(&evidences, [2]);
    device.open();
    assert!(other.join_all().await.iter().all(Result::is_ok));
    let served = flood.join_all().await;
    assert_eq!(served.len(), PER_SOURCE);
    assert!(served.iter().all(Result::is_ok));
    assert!(evidences.make(&[0; 32], source(1)).await.is_ok());
}

/// The TPM makes a statement to its end. Callers that hang up must not get the next one begun beside it, or in front of others.
#[tokio::test(start_paused = true)]
async fn a_hundred_callers_that_hang_up_take_one_turn() {
    let shut = Device::shut();
    let device = &shut.0;
    let evidences = evidences(device);
    let mut first = calls(&evidences, [0]);
    while device.begun.load(Ordering::SeqCst) == 0 {
        yield_now().await;
    }
    first.shutdown().await;
    let mut flood = calls(&evidences, 1..=100);
    yield_now().await;
    tokio::time::advance(PACE * 100).await;
    yield_now().await;
    flood.shutdown().await;

    assert_eq!(
        evidences.counts.waiting.get(),
        1,
        "the statement that is made"
    );
    device.open();
    assert!(evidences.make(&[0; 32], source(0)).await.is_ok());
    let begun = device.begun.load(Ordering::SeqCst);
    assert_eq!(begun, 2, "the first caller's and the honest one's");
    assert_eq!(evidences.counts.waiting.get(), 0);
    assert_eq!(evidences.queue.available_permits(), QUEUE);
}

#[tokio::test]
async fn the_evidence_is_over_the_callers_nonce() {
    let evidences = evidences(&Arc::default());
    let evidence = evidences.make(&[7; 32], source(0)).await.unwrap();
    assert_eq!(
        evidence.document(),
        Binding::for_verification(&[7; 32]).as_bytes()
    );
}

#[tokio::test]
async fn a_broken_tpm_is_not_ready_until_it_works_again() {
    let device = Arc::<Device>::default();
    let context = runtime::Context::new("test");
    let evidences = Evidences::new(device.clone(), &context);
    device.broken.store(true, Ordering::SeqCst);
    assert!(matches!(
        evidences.make(&[0; 32], source(0)).await,
        Err(EvidenceError::Issue(_))
    ));
    let (ready, report) = context.health.report();
    assert!(!ready && report.contains("TPM_RC_FAILURE"), "{report}");
    device.broken.store(false, Ordering::SeqCst);
    assert!(evidences.make(&[0; 32], source(0)).await.is_ok());
    assert!(context.health.report().0);
}
