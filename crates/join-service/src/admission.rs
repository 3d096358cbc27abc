//! Admits machines in turns: all that wait are decided on over one list of the records, one after the other.
//!
//! Every record has to be read twice for a machine, before it is decided on and after its record was written (`cluster::admission`),
//! and a list is as long as the cluster is large. So the two lists of a turn are everybody's who waited when it began. Nothing is
//! kept from one turn to the next: the first list is read after the machine asked, the second after its record was written, both
//! from the API and no cache. Within a turn the records that it has written count as read.

use std::{sync::Arc, time::Duration};

use cluster::{
    admission::{AdmittedNode, JoinRequest, Proven, Record, admit},
    network::AddressPlan,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    records::{Records, RecordsError, Stored, Written},
    refusal::Refusal,
    spawn_vital,
};

/// Machines in one turn: its lists are shared by so many, and nobody waits for more writes than these.
const TURN: usize = 64;
/// How long a turn may take. A connection that the API server's machine has forgotten answers never, and others wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// A machine that may be a node, after its record was written and nobody else's met it.
pub(crate) struct Admitted {
    pub(crate) node: AdmittedNode,
    pub(crate) stored: Stored,
    /// All records, the node's own among them.
    pub(crate) all: Arc<[Record]>,
}

/// Asks for a machine to be admitted.
pub(crate) struct Admission(mpsc::Sender<Applicant>);

struct Applicant {
    request: JoinRequest,
    proven: Proven,
    now: jiff::Timestamp,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Admitted, Refusal>>;

impl Admission {
    /// Takes turns in the background until the process is asked to stop.
    pub(crate) fn start(records: Records, config: Config, shutdown: CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(TURN);
        spawn_vital(shutdown, take_turns(receiver, records, config));
        Self(sender)
    }

    /// Decides and records in the next turn.
    pub(crate) async fn admit(
        &self,
        request: JoinRequest,
        proven: Proven,
        now: jiff::Timestamp,
    ) -> Result<Admitted, Refusal> {
        let (answer, answered) = oneshot::channel();
        let applicant = Applicant {
            request,
            proven,
            now,
            answer,
        };
        // Either fails when the turn was given up, or the process is about to end.
        let given_up = || Refusal::from(RecordsError::Late(DEADLINE));
        self.0.send(applicant).await.map_err(|_| given_up())?;
        answered.await.map_err(|_| given_up())?
    }
}

async fn take_turns(mut queue: mpsc::Receiver<Applicant>, records: Records, config: Config) {
    let mut waiting = Vec::with_capacity(TURN);
    while queue.recv_many(&mut waiting, TURN).await > 0 {
        let applicants = std::mem::take(&mut waiting);
        let plan = config.now().cluster.network;
        let taken = timeout(DEADLINE, turn(applicants, &records, &plan)).await;
        if taken.is_err() {
            tracing::warn!("a turn of admissions was given up");
        }
    }
}

async fn turn(applicants: Vec<Applicant>, records: &Records, plan: &AddressPlan) {
    let mut known = match records.list().await {
        Ok(stored) => Known::from(stored),
        Err(error) => return refuse(applicants.into_iter().map(|one| one.answer), error),
    };
    let mut written = Vec::new();
    for applicant in applicants {
        // Who has given up needs no record.
        if applicant.answer.is_closed() {
            continue;
        }
        match record(&applicant, records, &mut known, plan).await {
            Ok((node, record)) => written.push((applicant.answer, node, record)),
            Err(refusal) => tell(applicant.answer, Err(refusal)),
        }
    }
    if written.is_empty() {
        return;
    }
    let all: Arc<[Record]> = match records.list().await {
        Ok(stored) => Known::from(stored).records.into(),
        Err(error) => return refuse(written.into_iter().map(|(answer, ..)| answer), error),
    };
    for (answer, node, record) in written {
        let outcome = match records.confirm(record, &all).await {
            Ok(stored) => Ok(Admitted {
                node,
                stored,
                all: Arc::clone(&all),
            }),
            Err(error) => Err(error.into()),
        };
        tell(answer, outcome);
    }
}

/// Decides on one machine and writes its record.
async fn record(
    applicant: &Applicant,
    records: &Records,
    known: &mut Known,
    plan: &AddressPlan,
) -> Result<(AdmittedNode, Written), Refusal> {
    let Applicant {
        request,
        proven,
        now,
        ..
    } = applicant;
    let node = admit(request, proven, &known.records, plan, *now).map_err(Refusal::Denied)?;
    let before = known
        .stored
        .iter()
        .find(|stored| stored.name() == &request.name);
    let written = records.write(&node, before).await?;
    known.put(written.stored().clone());
    Ok((node, written))
}

/// The records as they were read, and over them those that were written since.
struct Known {
    stored: Vec<Stored>,
    /// The same, as `cluster::admission` takes them.
    records: Vec<Record>,
}

impl From<Vec<Stored>> for Known {
    fn from(stored: Vec<Stored>) -> Self {
        let records = stored.iter().map(|stored| stored.record.clone()).collect();
        Self { stored, records }
    }
}

impl Known {
    fn put(&mut self, written: Stored) {
        match self
            .stored
            .iter()
            .position(|stored| stored.name() == written.name())
        {
            Some(at) => {
                self.records[at] = written.record.clone();
                self.stored[at] = written;
            }
            None => {
                self.records.push(written.record.clone());
                self.stored.push(written);
            }
        }
    }
}

/// Tells all of them the one reason.
fn refuse(answers: impl Iterator<Item = Answer>, error: RecordsError) {
    let error = Arc::new(error);
    for answer in answers {
        tell(answer, Err(Refusal::Records(Arc::clone(&error))));
    }
}

fn tell(answer: Answer, outcome: Result<Admitted, Refusal>) {
    // Whoever does not wait any more asks again, and finds its record.
    let _gone = answer.send(outcome);
}

#[cfg(test)]
mod tests;
