//! Reads a packet capture of the L2 network and says what an eavesdropper there learns.

use anyhow::{Context, Result, bail};

/// What a capture holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Ethernet frames in all.
    pub frames: usize,
    /// UDP datagrams on port 51820 that are WireGuard messages (types 1 to 4).
    pub wireguard: usize,
    /// Frames with an IPv4 source or destination inside the mesh (10.45/16) or the pods' network (10.244/16).
    pub inner_addresses: usize,
    /// Frames that hold the marker.
    pub marker: usize,
}

/// Reads a pcap file (classic format, Ethernet, microseconds, as QEMU's `filter-dump` writes it) and looks for `marker`.
///
/// # Errors
/// When the file is not such a capture or ends inside a record's header.
pub fn summarise(pcap: &[u8], marker: &[u8]) -> Result<Summary> {
    let magic = pcap.get(..4).context("empty capture")?;
    if magic != 0xa1b2_c3d4_u32.to_le_bytes() {
        bail!("not a little-endian pcap file: {magic:02x?}");
    }
    let mut rest = pcap.get(24..).context("capture ends in its header")?;
    let mut summary = Summary::default();
    while !rest.is_empty() {
        let length = rest
            .get(8..12)
            .context("capture ends in a record's header")?;
        let length = u32::from_le_bytes(length.try_into()?) as usize;
        // the last record may still be being written
        let Some(frame) = rest.get(16..16 + length) else {
            break;
        };
        rest = &rest[16 + length..];
        summary.frames += 1;
        summary.wireguard += usize::from(is_wireguard(frame));
        summary.inner_addresses += usize::from(has_inner_address(frame));
        summary.marker += usize::from(frame.windows(marker.len()).any(|window| window == marker));
    }
    Ok(summary)
}

/// IPv4 header and what follows it.
fn ipv4(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    if frame.get(12..14)? != [0x08, 0x00] {
        return None;
    }
    let packet = frame.get(14..)?;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    Some((packet.get(..header)?, packet.get(header..)?))
}

fn is_wireguard(frame: &[u8]) -> bool {
    let Some((header, payload)) = ipv4(frame) else {
        return false;
    };
    let port = 51820_u16.to_be_bytes();
    header.get(9) == Some(&17)
        && (payload.get(..2) == Some(&port) || payload.get(2..4) == Some(&port))
        && payload.get(8).is_some_and(|kind| (1..=4).contains(kind))
        && payload.get(9..12) == Some(&[0, 0, 0])
}

fn has_inner_address(frame: &[u8]) -> bool {
    let inner = |address: Option<&[u8]>| matches!(address, Some([10, 45 | 244, ..]));
    ipv4(frame).is_some_and(|(header, _)| inner(header.get(12..16)) || inner(header.get(16..20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut out = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
        out.resize(24, 0);
        for frame in frames {
            let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
            out.extend([[0; 4], [0; 4], length, length].concat());
            out.extend(frame);
        }
        out
    }

    fn packet(protocol: u8, source: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45]);
        frame.extend([0; 8]);
        frame.push(protocol);
        frame.extend([0, 0]);
        frame.extend(source);
        frame.extend([10, 42, 1, 10]);
        frame.extend(payload);
        frame
    }

    #[test]
    fn tells_wireguard_from_clear_pod_traffic() {
        let mut wireguard = vec![0xca, 0x6c, 0xca, 0x6c, 0, 0, 0, 0, 4, 0, 0, 0];
        wireguard.extend([7; 32]);
        let clear = packet(6, [10, 244, 1, 5], b"GET / hello-marker");
        let summary = summarise(
            &capture(&[packet(17, [10, 42, 2, 10], &wireguard), clear]),
            b"hello-marker",
        )
        .unwrap();
        assert_eq!(
            summary,
            Summary {
                frames: 2,
                wireguard: 1,
                inner_addresses: 1,
                marker: 1
            }
        );
    }

    #[test]
    fn refuses_what_is_no_capture() {
        assert!(summarise(b"", b"x").is_err());
        assert!(summarise(&[0; 64], b"x").is_err());
    }
}
