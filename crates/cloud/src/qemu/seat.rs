//! Which machine of a local cluster: a role and a number, and all that follows from them.

use std::fmt;
use std::net::Ipv4Addr;

use cluster::{InstanceMetadata, NodeName, Role};

use super::{CLUSTER_MAC_PREFIX, OUTSIDE_MAC_PREFIX};

/// The most machines of one role: the last byte of their addresses begins at 10.
pub const SEATS_PER_ROLE: u8 = 200;
const FIRST: u8 = 10;

/// One machine's place in the plan of names and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    role: Role,
    index: u8,
}

/// A number beyond [`SEATS_PER_ROLE`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no {role} number {index}: a local cluster has at most {SEATS_PER_ROLE} machines of a role"
)]
pub struct NoSuchSeat {
    role: Role,
    index: usize,
}

impl Seat {
    /// The machine `index` (from 0) of a role.
    pub fn new(role: Role, index: usize) -> Result<Self, NoSuchSeat> {
        match u8::try_from(index) {
            Ok(small) if small < SEATS_PER_ROLE => Ok(Self { role, index: small }),
            _ => Err(NoSuchSeat { role, index }),
        }
    }

    /// Every machine of a cluster, control planes first.
    pub fn plan(control_planes: usize, workers: usize) -> Result<Vec<Self>, NoSuchSeat> {
        let control_planes = (0..control_planes).map(|index| Self::new(Role::ControlPlane, index));
        let workers = (0..workers).map(|index| Self::new(Role::Worker, index));
        control_planes.chain(workers).collect()
    }

    /// Control plane or worker.
    pub fn role(self) -> Role {
        self.role
    }

    /// Number among the machines of its role, from 0.
    pub fn index(self) -> u8 {
        self.index
    }

    fn network(self) -> u8 {
        match self.role {
            Role::ControlPlane => 1,
            Role::Worker => 2,
        }
    }

    fn host(self) -> u8 {
        FIRST + self.index
    }

    /// Host name, node name and directory name: `control-plane-0`.
    pub fn name(self) -> NodeName {
        NodeName::new(self.to_string()).expect("a role, a dash and a number are a DNS label")
    }

    /// The address on the network between the machines.
    pub fn cluster_address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 42, self.network(), self.host())
    }

    /// The host's loopback address that leads to this machine, with the ports everybody knows.
    pub fn host_address(self) -> Ipv4Addr {
        Ipv4Addr::new(127, 42, self.network(), self.host())
    }

    /// MAC address on the network between the machines.
    pub fn cluster_mac(self) -> Mac {
        self.mac(CLUSTER_MAC_PREFIX)
    }

    /// MAC address on the user-mode network.
    pub fn outside_mac(self) -> Mac {
        self.mac(OUTSIDE_MAC_PREFIX)
    }

    /// The seat whose NIC between the machines has this address.
    pub fn of_cluster_mac(mac: Mac) -> Option<Self> {
        let Mac([a, b, c, d, network, host]) = mac;
        let role = match network {
            1 => Role::ControlPlane,
            2 => Role::Worker,
            _ => return None,
        };
        let index = host.checked_sub(FIRST)?;
        let seat = Self::new(role, index.into()).ok()?;
        ([a, b, c, d] == CLUSTER_MAC_PREFIX).then_some(seat)
    }

    fn mac(self, [a, b, c, d]: [u8; 4]) -> Mac {
        Mac([a, b, c, d, self.network(), self.host()])
    }

    /// What the metadata server says about this machine.
    pub fn instance(self) -> InstanceMetadata {
        let name = self.name();
        InstanceMetadata {
            provider_id: format!("qemu:///hostname/{name}"),
            name,
            role: self.role,
            vpc_ip: self.cluster_address().into(),
            secondary_ip_range: None,
        }
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.role, self.index)
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Reads `52:54:00:42:01:0a`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_names_its_seat_and_no_other() {
        for seat in Seat::plan(3, 200).unwrap() {
            assert_eq!(Seat::of_cluster_mac(seat.cluster_mac()), Some(seat));
            assert_eq!(Seat::of_cluster_mac(seat.outside_mac()), None);
        }
        for text in [
            "52:54:00:42:01:09",
            "52:54:00:42:03:0a",
            "52:54:00:42:02:d2",
        ] {
            assert_eq!(
                Seat::of_cluster_mac(Mac::parse(text).unwrap()),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn names_and_addresses_follow_from_the_seat() {
        let plan = Seat::plan(1, 2).unwrap();
        let rows: Vec<_> = plan
            .iter()
            .map(|seat| {
                (
                    seat.name().to_string(),
                    seat.cluster_address(),
                    seat.host_address(),
                    seat.cluster_mac().to_string(),
                )
            })
            .collect();
        let row = |name: &str, cluster: [u8; 4], host: [u8; 4], mac: &str| {
            (
                name.to_owned(),
                Ipv4Addr::from(cluster),
                Ipv4Addr::from(host),
                mac.to_owned(),
            )
        };
        assert_eq!(
            rows,
            [
                row(
                    "control-plane-0",
                    [10, 42, 1, 10],
                    [127, 42, 1, 10],
                    "52:54:00:42:01:0a"
                ),
                row(
                    "worker-0",
                    [10, 42, 2, 10],
                    [127, 42, 2, 10],
                    "52:54:00:42:02:0a"
                ),
                row(
                    "worker-1",
                    [10, 42, 2, 11],
                    [127, 42, 2, 11],
                    "52:54:00:42:02:0b"
                ),
            ]
        );
        assert!(plan.iter().all(|seat| seat.instance().check().is_ok()));
    }

    #[test]
    fn a_plan_is_bounded() {
        assert!(Seat::plan(1, 200).is_ok());
        assert_eq!(
            Seat::plan(1, 201),
            Err(NoSuchSeat {
                role: Role::Worker,
                index: 200
            })
        );
        assert_eq!(Seat::plan(1, 300).unwrap_err().index, 200);
    }

    #[test]
    fn macs_read_back() {
        let mac = Mac([0x52, 0x54, 0, 0x42, 1, 0x0a]);
        assert_eq!(Mac::parse(&mac.to_string()), Some(mac));
        for bad in [
            "",
            "52:54:00:42:01",
            "52:54:00:42:01:0a:0b",
            "52:54:00:42:01:+a",
            "5254:00:42:01:0a:0b",
        ] {
            assert_eq!(Mac::parse(bad), None, "{bad}");
        }
    }
}
