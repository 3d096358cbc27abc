//! Where, how often and how patiently vendors are asked. The defaults are the vendors' own services and their limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use jiff::Timestamp;
use url::Url;

use crate::entry::Ages;
use crate::item::{CrlUrl, Item};

/// Everything that a site may want to be otherwise.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether anybody is asked at all; without it, the cache is all there is.
    pub network: bool,
    /// Who is asked.
    pub endpoints: Endpoints,
    /// How often.
    pub pace: Pace,
    /// How patiently.
    pub retries: Retries,
    /// How long what was fetched is fresh.
    pub ages: Ages,
    /// Where revocation lists may be fetched from by URL.
    pub crl_origins: Vec<CrlOrigin>,
    /// Which proxies are used.
    pub proxies: Proxies,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            network: true,
            endpoints: Endpoints::default(),
            pace: Pace::default(),
            retries: Retries::default(),
            ages: Ages::default(),
            crl_origins: CrlOrigin::known(),
            proxies: Proxies::None,
        }
    }
}

/// Base URLs of the services: the vendors', a mirror's, or those of a caching proxy that answers as they do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// AMD's key distribution service.
    pub amd: String,
    /// Intel's provisioning certification service.
    pub intel: String,
    /// The revocation list of Intel's root, the whole URL.
    pub intel_root_crl: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            amd: "https://kdsintf.amd.com".to_owned(),
            intel: "https://api.trustedservices.intel.com".to_owned(),
            intel_root_crl: "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
                .to_owned(),
        }
    }
}

impl Endpoints {
    /// Where an item is.
    pub(crate) fn url(&self, item: &Item) -> Result<Url, url::ParseError> {
        let amd = self.amd.trim_end_matches('/');
        let intel = self.intel.trim_end_matches('/');
        let text = match item {
            Item::AmdVcek(vcek) => format!(
                "{amd}/vcek/v1/{}/{}?{}",
                vcek.product().vendor_name(),
                vcek.chip(),
                vcek.tcb().query()
            ),
            Item::AmdChain { product, signer } => {
                format!("{amd}/{signer}/v1/{}/cert_chain", product.vendor_name())
            }
            Item::AmdCrl { product, signer } => {
                format!("{amd}/{signer}/v1/{}/crl", product.vendor_name())
            }
            Item::IntelTcbInfo { fmspc, update } => format!(
                "{intel}/tdx/certification/v4/tcb?fmspc={}&update={update}",
                fmspc.to_string().to_uppercase()
            ),
            Item::IntelQeIdentity { update } => {
                format!("{intel}/tdx/certification/v4/qe/identity?update={update}")
            }
            Item::IntelPckCrl { ca } => {
                format!("{intel}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der")
            }
            Item::IntelRootCrl => self.intel_root_crl.clone(),
            Item::Crl(url) => url.as_str().to_owned(),
        };
        Url::parse(&text)
    }
}

/// Shortest time between the beginnings of two requests, for each queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Certificates of AMD's chips. The service gives one address about one of them in ten seconds.
    pub amd_vcek: Duration,
    /// AMD's chains and revocation lists.
    pub amd: Duration,
    /// Everything of Intel's.
    pub intel: Duration,
    /// Revocation lists by URL.
    pub crl: Duration,
    /// How many may wait in one queue; whoever comes then is told so at once.
    pub longest_queue: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            amd_vcek: Duration::from_secs(10),
            amd: Duration::from_secs(1),
            intel: Duration::from_millis(200),
            crl: Duration::from_millis(200),
            longest_queue: 64,
        }
    }
}

/// When an attempt has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often an item is asked for at most.
    pub attempts: u32,
    /// Wait before the second attempt; each further one is twice as long.
    pub first_wait: Duration,
    /// The longest such wait.
    pub longest_wait: Duration,
    /// The longest wait that a service may ask for with `Retry-After`; if it asks for more, the attempt was the last.
    pub longest_retry_after: Duration,
    /// How long a connection may take.
    pub connect: Duration,
    /// How long one attempt may take, from its turn in the queue to the answer's last byte.
    pub attempt: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(30),
            longest_retry_after: Duration::from_secs(60),
            connect: Duration::from_secs(10),
            attempt: Duration::from_secs(30),
        }
    }
}

impl Retries {
    /// The wait after attempt `failed`, counted from one: between half of its length and all of it, as `jitter`, in
    /// `0..=1`, says.
    pub(crate) fn wait(&self, failed: u32, jitter: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(failed.saturating_sub(1).min(20));
        let whole = self
            .first_wait
            .saturating_mul(doubled)
            .min(self.longest_wait);
        whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

/// Where revocation lists may be fetched from: a scheme, a host and the beginning of a path, each to the letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlOrigin(String);

impl CrlOrigin {
    /// The distribution points of the certificates whose roots are built into `attest`. Most are plain http, as is usual:
    /// the lists are signed.
    pub fn known() -> Vec<Self> {
        [
            "http://pki.goog/cloud_integrity/",
            "https://pki.goog/cloud_integrity/",
            "http://privateca-content-62d71773-0000-21da-852e-f4f5e80d7778.storage.googleapis.com/",
            "http://www.microsoft.com/pkiops/crl/",
            "http://crl.microsoft.com/",
            "http://primary-cdn.pki.core.windows.net/",
            "http://secondary-cdn.pki.core.windows.net/",
            "http://azurevtpmpki.eastus2.pki.core.windows.net/",
            "https://certificates.trustedservices.intel.com/",
            "http://pki.infineon.com/",
        ]
        .map(|prefix| Self(prefix.to_owned()))
        .to_vec()
    }

    /// An origin that a site adds. `None` if it is not `http[s]://host[:port]/path...`: without a path's beginning, a
    /// host with a longer name would be meant as well.
    pub fn new(prefix: &str) -> Option<Self> {
        let url = CrlUrl::parse(prefix).ok()?;
        (url.as_str() == prefix && !prefix.contains('?')).then(|| Self(prefix.to_owned()))
    }

    pub(crate) fn covers(&self, url: &CrlUrl) -> bool {
        url.as_str().starts_with(&self.0)
    }
}

/// Which proxies are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxies {
    /// None.
    None,
    /// Those that the environment names (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
    Environment,
}

/// The clock and the dice: parameters, so that a test has its own.
#[derive(Clone)]
pub struct Ambient {
    pub(crate) now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    pub(crate) jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl Ambient {
    /// `jitter` gives a number in `0..=1` each time.
    pub fn new(
        now: impl Fn() -> Timestamp + Send + Sync + 'static,
        jitter: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            now: Arc::new(now),
            jitter: Arc::new(jitter),
        }
    }

    /// This system's.
    pub fn system() -> Self {
        let random = SystemRandom::new();
        Self::new(Timestamp::now, move || {
            let mut bytes = [0; 4];
            // without randomness, the longest waits
            match random.fill(&mut bytes) {
                Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
                Err(_) => 1.0,
            }
        })
    }
}

impl fmt::Debug for Ambient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ambient")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::tests::one_of_each;

    #[test]
    fn every_item_is_asked_for_where_the_vendors_have_it() {
        let endpoints = Endpoints::default();
        let urls: Vec<String> = one_of_each()
            .iter()
            .map(|item| endpoints.url(item).unwrap().to_string())
            .collect();
        let chip = "ab".repeat(64);
        for expected in [
            "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der".to_owned(),
            format!("https://kdsintf.amd.com/vcek/v1/Milan/{chip}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=217"),
            "https://kdsintf.amd.com/vcek/v1/Turin/abababababababab?fmcSPL=04&blSPL=00&teeSPL=00&snpSPL=00&ucodeSPL=217".to_owned(),
            "https://kdsintf.amd.com/vlek/v1/Genoa/cert_chain".to_owned(),
            "https://kdsintf.amd.com/vcek/v1/Genoa/crl".to_owned(),
            "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=90C06F000000&update=early".to_owned(),
            "https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity?update=standard".to_owned(),
            "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der".to_owned(),
            "http://pki.goog/cloud_integrity/tpm_ek_root_1.crl".to_owned(),
        ] {
            assert!(urls.contains(&expected), "{expected} is not in {urls:#?}");
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_differ_by_up_to_half() {
        let retries = Retries {
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(5),
            ..Retries::default()
        };
        let whole: Vec<_> = [1, 2, 3, 4, 5, 1000]
            .map(|n| retries.wait(n, 1.0).as_secs())
            .to_vec();
        assert_eq!(whole, [1, 2, 4, 5, 5, 5]);
        assert_eq!(retries.wait(2, 0.0), Duration::from_secs(1));
        assert_eq!(retries.wait(2, 7.0), Duration::from_secs(2));
    }

    #[test]
    fn an_origin_ends_within_a_path() {
        let origin = CrlOrigin::new("http://pki.goog/cloud_integrity/").unwrap();
        for (url, covered) in [
            ("http://pki.goog/cloud_integrity/tpm_ek_root_1.crl", true),
            ("https://pki.goog/cloud_integrity/tpm_ek_root_1.crl", false),
            ("http://pki.goog.example.org/cloud_integrity/a.crl", false),
            ("http://pki.goog:8080/cloud_integrity/a.crl", false),
            ("http://pki.goog/cloud_integrity/../elsewhere", false),
            ("http://pki.goog/other/a.crl", false),
        ] {
            assert_eq!(
                origin.covers(&CrlUrl::parse(url).unwrap()),
                covered,
                "{url}"
            );
        }
        assert_eq!(CrlOrigin::new("http://pki.goog"), None);
        assert_eq!(CrlOrigin::new("http://pki.goog/?a"), None);
        assert_eq!(CrlOrigin::known().len(), 10);
        for origin in CrlOrigin::known() {
            assert_eq!(CrlOrigin::new(&origin.0), Some(origin));
        }
    }
}
