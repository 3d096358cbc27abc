//! A control plane whose certificates live minutes: renewed by the loop that a node runs, while clients write and read.
//!
//! How long a leaf lives at the least follows from who reads it (`Leaf::noticed_after`): here etcd's live 90 s, the API server's 144 s, and
//! the managers' twelve minutes, because client-go looks every five. The managers' first ones are made as if they were more than six
//! minutes old: they end while the test runs, which is what sets its length.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s::control_plane::Service;
use k8s::pki::{Authorities, Credential, Leaf, Lifetime, Pki};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{LogParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use node::renewal::Renewal;
use testkit::kubernetes::ControlPlane;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

mod objects;
mod tls;

const LIFETIME: Duration = Duration::from_secs(90);
/// From the start of the managers to the end of their first certificates: client-go's five minutes, and half a minute to start.
const FIRST_CERTIFICATES: SignedDuration = SignedDuration::from_secs(335);
const MANAGERS: [(Service, Leaf, &str); 2] = [
    (
        Service::ControllerManager,
        Leaf::ControllerManager,
        "kube-controller-manager",
    ),
    (Service::Scheduler, Leaf::Scheduler, "kube-scheduler"),
];

/// Everything goes well until this says that it is enough.
struct Load {
    enough: AtomicBool,
    requests: AtomicU64,
}

impl Load {
    /// Does something again and again; it may never fail.
    async fn keep(
        &self,
        what: &str,
        pause: Duration,
        mut ask: impl AsyncFnMut() -> Result<(), String>,
    ) {
        let begun = Instant::now();
        while !self.enough.load(Ordering::Relaxed) {
            if let Err(error) = ask().await {
                panic!(
                    "{what}, {} s after the beginning: {error}",
                    begun.elapsed().as_secs()
                );
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pause).await;
        }
    }
}

fn said(error: kube::Error) -> String {
    runtime::chain(&error).to_string()
}

fn not_after(der: &[u8]) -> Timestamp {
    let (_, certificate) = X509Certificate::from_der(der).unwrap();
    Timestamp::from_second(certificate.validity().not_after.timestamp()).unwrap()
}

fn on_disk(pki: &Path, leaf: Leaf) -> Vec<u8> {
    CertificateDer::from_pem_file(pki.join(leaf.certificate()))
        .unwrap()
        .to_vec()
}

/// Gives the managers certificates that end in [`FIRST_CERTIFICATES`], as they would have been given minutes ago.
fn age_managers(control_plane: &ControlPlane, lifetime: Lifetime) {
    let pki = control_plane.node().paths().pki();
    let directory = tempfile::tempdir().unwrap();
    let names = control_plane.node().names(Ipv4Addr::LOCALHOST, Vec::new());
    let past = Timestamp::now() - lifetime.of(Leaf::Scheduler) + FIRST_CERTIFICATES;
    Pki::new(Authorities::load(&pki).unwrap(), names, directory.path())
        .with_lifetime(lifetime)
        .renew(past)
        .unwrap();
    for (_, leaf, _) in MANAGERS {
        for file in [leaf.key(), leaf.certificate()] {
            std::fs::copy(directory.path().join(&file), pki.join(&file)).unwrap();
        }
    }
}

/// Writes a number and reads it back.
async fn write_and_read(client: &Client, name: &str, number: u64) -> Result<(), String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let data = serde_json::json!({ "data": { "number": number.to_string() } });
    maps.patch(name, &PatchParams::default(), &Patch::Merge(&data))
        .await
        .map_err(said)?;
    let read = maps.get(name).await.map_err(said)?.data;
    let read = read.and_then(|data| data.get("number").cloned());
    if read.as_deref() == Some(number.to_string().as_str()) {
        Ok(())
    } else {
        Err(format!("wrote {number}, read {read:?}"))
    }
}

async fn create_map(client: &Client, name: &str) {
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    };
    Api::<ConfigMap>::namespaced(client.clone(), "default")
        .create(&PostParams::default(), &map)
        .await
        .unwrap();
}

/// A server's new connections, second by second, and the certificates that it showed.
async fn watch_server(
    load: &Load,
    address: SocketAddr,
    authority: PathBuf,
    identity: Option<PathBuf>,
    path: Option<&str>,
) -> BTreeSet<Vec<u8>> {
    let mut seen = BTreeSet::new();
    load.keep("a new connection", Duration::from_secs(1), async || {
        let shown = tls::get(address, &authority, identity.as_deref(), path).await?;
        seen.insert(shown);
        Ok(())
    })
    .await;
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_whose_certificates_live_minutes_is_used_all_the_time() {
    let lifetime = Lifetime::at_most_a_day(LIFETIME);
    let mut control_plane = ControlPlane::prepare_with(Timestamp::now(), lifetime).unwrap();
    let node = control_plane.node().clone();
    let pki = node.paths().pki();
    let renew = || {
        let renewal = Renewal::new(node.clone(), Ipv4Addr::LOCALHOST, Vec::new());
        tokio::spawn(async move {
            // there is no kubelet here, and a restart of anything else would be a failure
            let restart = |service| async move { assert_eq!(service, Service::Kubelet) };
            renewal.run(restart).await;
        })
    };

    let renewing = renew();
    control_plane.spawn(Service::Etcd).unwrap();
    control_plane.spawn(Service::ApiServer).unwrap();
    control_plane.ready().await.unwrap();
    // the administrator's certificate lives a year
    let admin = control_plane
        .pki()
        .authorities()
        .issue_admin("test", Timestamp::now())
        .unwrap();
    let agent = k8s::api::client(&control_plane.agent_kubeconfig())
        .await
        .unwrap();
    k8s::api::Applier::new(agent)
        .manifest(k8s::addons::ROLES)
        .await
        .unwrap();
    let client = k8s::api::client_from(&control_plane.kubeconfig(Credential::Embedded(&admin)))
        .await
        .unwrap();

    // the managers must have read their first certificates before those are renewed
    renewing.abort();
    age_managers(&control_plane, lifetime);
    let first: Vec<_> = MANAGERS.map(|(_, leaf, _)| on_disk(&pki, leaf)).into();
    for (service, ..) in MANAGERS {
        control_plane.spawn(service).unwrap();
    }
    for (_, _, lease) in MANAGERS {
        objects::eventually("a leader", async || {
            let leads = objects::leads(&client, lease).await;
            leads.ok_or_else(|| "no lease".to_owned())
        })
        .await;
    }
    let _renewing = renew();

    let (certificate, key) = objects::serving_certificate(&client, "first").await;
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    assert!(
        not_after(&certificate) <= Timestamp::now() + lifetime.of_kubelets(),
        "what is signed for kubelets lives no longer than the rest"
    );
    let key = || PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![certificate.clone()];
    let (kubelet, kubelet_seen) = tls::serve(&pki.join("ca.crt"), chain.clone(), key()).await;
    let (extension, extension_seen) =
        tls::serve(&pki.join("front-proxy-ca.crt"), chain, key()).await;
    objects::create(&client, kubelet, extension).await;
    // the API server looks for a new extension by itself, seconds after it was registered
    objects::eventually("an answer of the extension", async || {
        ask_extension(&client).await
    })
    .await;
    for name in ["steady", "fresh"] {
        create_map(&client, name).await;
    }

    let load = Load {
        enough: AtomicBool::new(false),
        requests: AtomicU64::new(0),
    };
    let end = not_after(&first[0]).max(not_after(&first[1])) + SignedDuration::from_secs(20);
    let timer = async {
        while Timestamp::now() < end {
            control_plane.check_alive().unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // the certificates that the managers began with have ended, and those of everybody else many times
        managers_work(&client, not_after(&first[0])).await;
        load.enough.store(true, Ordering::Relaxed);
    };
    let agent_kubeconfig = node.paths().node_agent_kubeconfig();
    let (mut written, mut fresh) = (0, 0);
    let listen = node.listen();
    let etcd_client = pki.join(Leaf::ApiServerEtcdClient.stem());
    let etcd_peer = pki.join(Leaf::EtcdPeer.stem());
    let etcd_ca = pki.join("etcd/ca.crt");
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let pause = Duration::from_millis(200);
    let ((), (), (), (), (), api, etcd, peer) = tokio::join!(
        timer,
        load.keep("one connection", pause, async || {
            written += 1;
            write_and_read(&client, "steady", written).await
        }),
        load.keep("a new client", pause * 5, async || {
            fresh += 1;
            let client = k8s::api::client(&agent_kubeconfig)
                .await
                .map_err(|error| runtime::chain(&error).to_string())?;
            write_and_read(&client, "fresh", fresh).await
        }),
        load.keep("a pod's log", pause * 15, async || {
            let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
            let log = pods.logs(objects::POD, &LogParams::default()).await;
            log.map(drop).map_err(said)
        }),
        load.keep("an extension of the API", pause * 15, async || {
            ask_extension(&client).await
        }),
        watch_server(&load, local(listen.api.1), pki.join("ca.crt"), None, None),
        watch_server(
            &load,
            local(listen.etcd_client),
            etcd_ca.clone(),
            Some(etcd_client),
            Some("/version")
        ),
        watch_server(
            &load,
            local(listen.etcd_peer.1),
            etcd_ca.clone(),
            Some(etcd_peer),
            Some("/version")
        ),
    );
    control_plane.check_alive().unwrap();

    // The API server keeps its connections to etcd. The certificate that it began with has ended, so it must show another on new ones.
    control_plane.kill(Service::Etcd).unwrap();
    control_plane.spawn(Service::Etcd).unwrap();
    objects::eventually("a write after etcd came back", async || {
        write_and_read(&client, "steady", written + 1).await
    })
    .await;
    control_plane.check_alive().unwrap();
    let count = |seen: &tls::Seen| seen.lock().unwrap().len();
    let shown = [
        ("API server", api.len(), 3),
        ("etcd to clients", etcd.len(), 5),
        ("etcd to members", peer.len(), 5),
        ("API server to kubelets", count(&kubelet_seen), 5),
        ("API server to extensions", count(&extension_seen), 3),
    ];
    println!(
        "{} requests, none failed; certificates seen: {shown:?}",
        load.requests.into_inner()
    );
    for (who, seen, least) in shown {
        assert!(seen >= least, "{who} showed {seen} certificates");
    }
}

async fn ask_extension(client: &Client) -> Result<(), String> {
    let path = "/apis/renewal.test/v1/anything";
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    client.request_text(request).await.map(drop).map_err(said)
}

/// The managers work after the end of the certificates they began with.
async fn managers_work(client: &Client, ended: Timestamp) {
    objects::serving_certificate(client, "last").await;
    for (_, _, lease) in MANAGERS {
        objects::eventually("a leader after its first certificate", async || {
            let renewed = objects::leads(client, lease).await;
            match renewed {
                Some(renewed) if renewed > ended => Ok(()),
                _ => Err(format!("{renewed:?}")),
            }
        })
        .await;
    }
}
