//! The commands, one file each.

pub(crate) mod apply;
pub(crate) mod backup;
pub(crate) mod collateral;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod evidence;
pub(crate) mod man;
pub(crate) mod policy;
pub(crate) mod recover;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod version;

use crate::failure::Failure;
use crate::kubeconfig;
use crate::output::Terminal;
use crate::text::address;
use crate::workspace::Workspace;

/// How kubectl finds the cluster that was made.
pub(crate) fn tell_kubeconfig(
    workspace: &Workspace,
    terminal: &Terminal,
    merge: bool,
) -> Result<(), Failure> {
    if merge {
        let path = kubeconfig::merge_into_default(workspace)?;
        terminal.line(format_args!(
            "  kubectl uses the cluster by {}.",
            path.display()
        ));
    } else {
        terminal.line(format_args!(
            "  export KUBECONFIG={}",
            workspace.kubeconfig_path().display()
        ));
    }
    Ok(())
}

/// `host:port` of what a flag names; the port may be left out.
pub(crate) fn with_port(flag: &str, endpoint: &str, usual: u16) -> Result<String, Failure> {
    let endpoint = endpoint.trim();
    let usage = || {
        Failure::usage(format!("{flag} {endpoint:?} is not an address"))
            .hint("host, host:port, or [IPv6]:port")
    };
    if endpoint.is_empty() || endpoint.contains(char::is_whitespace) || endpoint.contains('/') {
        return Err(usage());
    }
    if let Ok(ip) = endpoint.parse::<std::net::IpAddr>() {
        return Ok(address(&ip.to_string(), usual));
    }
    match endpoint.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() => {
            port.parse::<u16>().map_err(|_| usage())?;
            Ok(endpoint.to_owned())
        }
        Some(_) => Err(usage()),
        None => Ok(address(endpoint, usual)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_get_the_usual_port() {
        for (given, expected) in [
            ("127.42.1.10", Some("127.42.1.10:30081")),
            ("127.42.1.10:4000", Some("127.42.1.10:4000")),
            ("::1", Some("[::1]:30081")),
            ("[::1]:4000", Some("[::1]:4000")),
            ("node.example.org", Some("node.example.org:30081")),
            ("", None),
            (":1", None),
            ("host:port", None),
            ("host:99999", None),
            ("http://host", None),
            ("a b", None),
        ] {
            assert_eq!(
                with_port("--endpoint", given, 30081).ok().as_deref(),
                expected,
                "{given:?}"
            );
        }
    }
}
