//! Calls of the kernel that no crate has in a safe form: the ioctls of the guest devices, and addresses of virtual sockets.
//!
//! The one place of this crate with unsafe code. An ioctl is given the address of a structure, some of which hold further addresses, and
//! the compiler cannot see that the kernel means the same structure. So each call is made here, from a structure on the stack that is laid out as in
//! the kernel's header, by a function that is safe to call with anything.
//!
//! Specification: Linux, `include/uapi/linux/sev-guest.h`, `include/uapi/linux/tdx-guest.h`, `include/uapi/linux/vm_sockets.h`.
#![expect(
    unsafe_code,
    reason = "ioctls and socket addresses are handed to the kernel by address"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// `struct snp_report_resp`: what the firmware answers, with room for later versions.
pub(crate) const SNP_RESPONSE: usize = 4000;
/// `TDX_REPORT_LEN`.
pub(crate) const TD_REPORT: usize = 1024;
/// Of what both kinds of report are made over.
const USER_DATA: usize = 64;

/// `SNP_GET_REPORT`.
const SNP_GET_REPORT: Opcode = opcode::read_write::<SnpGuestRequest>(b'S', 0);
/// `SNP_GET_EXT_REPORT`.
const SNP_GET_EXT_REPORT: Opcode = opcode::read_write::<SnpGuestRequest>(b'S', 2);
/// `TDX_CMD_GET_REPORT0`.
const TDX_CMD_GET_REPORT0: Opcode = opcode::read_write::<TdReportRequest>(b'T', 1);

/// `struct snp_report_req`.
#[repr(C)]
struct SnpReportRequest {
    user_data: [u8; USER_DATA],
    vmpl: u32,
    reserved: [u8; 28],
}

/// `struct snp_ext_report_req`.
#[repr(C)]
struct SnpExtendedReportRequest {
    report: SnpReportRequest,
    certificates_address: u64,
    certificates_length: u32,
    /// The compiler's, by name, so that no byte of it is undefined.
    padding: u32,
}

/// `struct snp_guest_request_ioctl`.
#[repr(C)]
struct SnpGuestRequest {
    message_version: u8,
    /// As above.
    padding: [u8; 7],
    request_address: u64,
    response_address: u64,
    exit_info2: u64,
}

/// `struct tdx_report_req`.
#[repr(C)]
struct TdReportRequest {
    report_data: [u8; USER_DATA],
    td_report: [u8; TD_REPORT],
}

/// `struct sockaddr_vm`.
#[repr(C)]
struct VsockAddress {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags_and_zero: [u8; 4],
}

/// Why there is no report of SEV-SNP, in the kernel's words.
#[derive(Debug)]
pub(crate) struct SnpFailure {
    pub(crate) error: io::Error,
    pub(crate) exit_info2: u64,
    /// What the kernel left there: the length it needs, if the one it was given is too short.
    pub(crate) certificates_length: u32,
}

/// A character device that was opened. Another file is not handed an ioctl.
#[derive(Debug)]
pub(crate) struct Device(File);

impl Device {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if !file.metadata()?.file_type().is_char_device() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "this file is no character device",
            ));
        }
        Ok(Self(file))
    }
}

/// `SNP_GET_REPORT` over `user_data`, at privilege level `vmpl`.
pub(crate) fn snp_report(
    device: &Device,
    user_data: &[u8; USER_DATA],
    vmpl: u32,
) -> Result<[u8; SNP_RESPONSE], SnpFailure> {
    let mut request = SnpReportRequest::new(user_data, vmpl);
    let mut response = [0; SNP_RESPONSE];
    let mut call = SnpGuestRequest::new(address(&mut request), address(&mut response));
    // SAFETY: the operation takes a `struct snp_guest_request_ioctl`, which `SnpGuestRequest` is (its size is in the number, and a test
    // holds both against those of the header). Its two addresses are those of `request`, of which the kernel reads 96 bytes, and of `response`, into
    // which it writes 4000; both are exactly so long, borrowed by nobody else, and live until the call is over. Any bytes are a value of them.
    let done = unsafe { update::<SNP_GET_REPORT, _>(device, &mut call) };
    done.map(|()| response).map_err(|error| SnpFailure {
        error,
        exit_info2: call.exit_info2,
        certificates_length: 0,
    })
}

/// `SNP_GET_EXT_REPORT` over `user_data`, at privilege level `vmpl`. The host's table is written to the begin of `certificates`.
pub(crate) fn snp_extended_report(
    device: &Device,
    user_data: &[u8; USER_DATA],
    vmpl: u32,
    certificates: &mut [u8],
) -> Result<[u8; SNP_RESPONSE], SnpFailure> {
    let certificates_length = u32::try_from(certificates.len()).map_err(|_| SnpFailure {
        error: io::ErrorKind::InvalidInput.into(),
        exit_info2: 0,
        certificates_length: 0,
    })?;
    let mut request = SnpExtendedReportRequest {
        report: SnpReportRequest::new(user_data, vmpl),
        certificates_address: certificates.as_mut_ptr().expose_provenance() as u64,
        certificates_length,
        padding: 0,
    };
    let mut response = [0; SNP_RESPONSE];
    let mut call = SnpGuestRequest::new(address(&mut request), address(&mut response));
    // SAFETY: as in `snp_report`, with a request of 112 bytes that the kernel also writes back. The third address is that of
    // `certificates`, of which the kernel writes at most `certificates_length` bytes: the length of the slice, which is borrowed for this call alone.
    let done = unsafe { update::<SNP_GET_EXT_REPORT, _>(device, &mut call) };
    done.map(|()| response).map_err(|error| SnpFailure {
        error,
        exit_info2: call.exit_info2,
        certificates_length: request.certificates_length,
    })
}

/// `TDX_CMD_GET_REPORT0` over `report_data`.
pub(crate) fn td_report(
    device: &Device,
    report_data: &[u8; USER_DATA],
) -> io::Result<[u8; TD_REPORT]> {
    let mut request = TdReportRequest {
        report_data: *report_data,
        td_report: [0; TD_REPORT],
    };
    // SAFETY: the operation takes a `struct tdx_report_req`, which `TdReportRequest` is (its size is in the number, and a test holds both
    // against those of the kernel's sources). It holds no address, is borrowed by nobody else, and any bytes are a value of it.
    unsafe { update::<TDX_CMD_GET_REPORT0, _>(device, &mut request) }?;
    Ok(request.td_report)
}

/// A stream to a port of the host or of another machine on it (`AF_VSOCK`). The kernel gives up after two seconds.
pub(crate) fn connect_vsock(cid: u32, port: u32) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::VSOCK,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::connect(&socket, &VsockAddress::new(cid, port))?;
    Ok(socket)
}

/// # Safety
/// `OPCODE` must take a `T`, and whatever addresses are in it must be good for what the kernel does with them.
unsafe fn update<const OPCODE: Opcode, T>(device: &Device, value: &mut T) -> io::Result<()> {
    // SAFETY: the caller's promise is the one that both calls ask for.
    let done = unsafe { ioctl(&device.0, Updater::<OPCODE, T>::new(value)) };
    Ok(done?)
}

/// The address of a value that the kernel may write to.
fn address<T>(value: &mut T) -> u64 {
    std::ptr::from_mut(value).expose_provenance() as u64
}

impl SnpReportRequest {
    const fn new(user_data: &[u8; USER_DATA], vmpl: u32) -> Self {
        Self {
            user_data: *user_data,
            vmpl,
            reserved: [0; 28],
        }
    }
}

impl SnpGuestRequest {
    const fn new(request_address: u64, response_address: u64) -> Self {
        Self {
            message_version: 1,
            padding: [0; 7],
            request_address,
            response_address,
            exit_info2: 0,
        }
    }
}

impl VsockAddress {
    const fn new(cid: u32, port: u32) -> Self {
        Self {
            family: AddressFamily::VSOCK.as_raw(),
            reserved: 0,
            port,
            cid,
            flags_and_zero: [0; 4],
        }
    }
}

// SAFETY: the pointer is that of `self`, which is laid out as `struct sockaddr_vm`, and the length is its size; both are good as long as the
// borrow, which outlives the closure.
unsafe impl SocketAddrArg for VsockAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        const LENGTH: SocketAddrLen = 16;
        const { assert!(size_of::<VsockAddress>() == LENGTH as usize) };
        f(std::ptr::from_ref(self).cast(), LENGTH)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// As the C compiler has them of the header of Linux 6.1, x86-64.
    #[test]
    fn structures_are_laid_out_as_the_kernels() {
        assert_eq!(size_of::<SnpReportRequest>(), 96);
        assert_eq!(offset_of!(SnpReportRequest, user_data), 0);
        assert_eq!(offset_of!(SnpReportRequest, vmpl), 64);
        assert_eq!(offset_of!(SnpReportRequest, reserved), 68);
        assert_eq!(size_of::<SnpExtendedReportRequest>(), 112);
        assert_eq!(
            offset_of!(SnpExtendedReportRequest, certificates_address),
            96
        );
        assert_eq!(
            offset_of!(SnpExtendedReportRequest, certificates_length),
            104
        );
        assert_eq!(size_of::<SnpGuestRequest>(), 32);
        assert_eq!(offset_of!(SnpGuestRequest, message_version), 0);
        assert_eq!(offset_of!(SnpGuestRequest, request_address), 8);
        assert_eq!(offset_of!(SnpGuestRequest, response_address), 16);
        assert_eq!(offset_of!(SnpGuestRequest, exit_info2), 24);
        assert_eq!(size_of::<TdReportRequest>(), 1088);
        assert_eq!(offset_of!(TdReportRequest, report_data), 0);
        assert_eq!(offset_of!(TdReportRequest, td_report), 64);
        assert_eq!(size_of::<VsockAddress>(), 16);
        assert_eq!(offset_of!(VsockAddress, family), 0);
        assert_eq!(offset_of!(VsockAddress, port), 4);
        assert_eq!(offset_of!(VsockAddress, cid), 8);
    }

    /// `_IOWR`: both directions in the top two bits, the size, the driver's letter, the number.
    #[test]
    fn operations_have_the_kernels_numbers() {
        let iowr = |letter: u8, number: u32, size: u32| {
            (3 << 30) | (size << 16) | (u32::from(letter) << 8) | number
        };
        for (operation, computed, number) in [
            (SNP_GET_REPORT, iowr(b'S', 0, 32), 0xc020_5300_u32),
            (SNP_GET_EXT_REPORT, iowr(b'S', 2, 32), 0xc020_5302),
            (TDX_CMD_GET_REPORT0, iowr(b'T', 1, 1088), 0xc440_5401),
        ] {
            assert_eq!(computed, number);
            assert_eq!(operation, Opcode::from(number));
        }
        assert_eq!(AddressFamily::VSOCK.as_raw(), 40);
    }

    #[test]
    fn a_file_that_is_no_device_is_handed_no_ioctl() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = Device::open(file.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused}");
    }

    /// A device that does not know the operations: the real system call, up to a driver's answer.
    #[test]
    fn a_device_of_another_kind_refuses() {
        let device = Device::open(Path::new("/dev/null")).unwrap();
        let refused = snp_report(&device, &[1; USER_DATA], 0).unwrap_err();
        assert_eq!(refused.error.raw_os_error(), Some(25), "{refused:?}"); // ENOTTY
        assert_eq!(refused.exit_info2, 0);
        let mut table = [7; 4096];
        let refused = snp_extended_report(&device, &[1; USER_DATA], 0, &mut table).unwrap_err();
        assert_eq!(refused.error.raw_os_error(), Some(25), "{refused:?}");
        assert_eq!(refused.certificates_length, 4096);
        let refused = td_report(&device, &[1; USER_DATA]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(25), "{refused}");
    }

    #[test]
    fn an_address_of_a_virtual_socket_is_the_kernels() {
        let address = VsockAddress::new(2, 4050);
        // SAFETY: the pointer is good for as many bytes as come with it, all of them defined, as long as `address` lives.
        let bytes = unsafe {
            address.with_sockaddr(|pointer, length| {
                std::slice::from_raw_parts(pointer.cast::<u8>(), length as usize).to_vec()
            })
        };
        assert_eq!(
            bytes,
            [40, 0, 0, 0, 0xd2, 0x0f, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
        );
        // no machine has this number; where the kernel knows no virtual sockets at all, that is the answer
        assert!(connect_vsock(u32::MAX - 1, 4050).is_err());
    }
}
