//! A download that does not fit: one clear sentence, nothing left behind.

use std::{net::Ipv4Addr, process::Command, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use cluster::{
    catalogue::{Component, Sha256},
    kubernetes::Version,
};
use k8s::components::{InstallError, Installer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A small file system, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(directory.path())
            .status()?;
        ensure!(
            status.success(),
            "this test mounts a small tmpfs and needs root for it"
        );
        Ok(Self(directory))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _reported_by_umount = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_said_so_and_freed() -> Result<()> {
    let disk = SmallDisk::mount()?;
    let content = vec![b'x'; 8 << 20];
    let component = Component::program("kubelet", Version::new(20, 2), Sha256::of(&content));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let mirror = format!("http://{}", listener.local_addr()?);
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut request = [0; 4096];
        let _length = stream.read(&mut request).await?;
        stream
            .write_all(
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                    content.len()
                )
                .as_bytes(),
            )
            .await?;
        // the client hangs up when its disk is full
        stream.write_all(&content).await
    });

    let installer = Installer::new(Some(&mirror))?.below(disk.0.path());
    let error = installer
        .install(&[component], &(Arc::new(|_: &str, _| {}) as _))
        .await
        .unwrap_err();
    let InstallError::DiskFull {
        name,
        directory,
        written,
    } = &error
    else {
        anyhow::bail!("not a full disk: {error:?}")
    };
    assert_eq!(name, "kubelet");
    assert!(
        directory.ends_with("/run/state/bin") && *written >= 1 << 20 && *written < 3 << 20,
        "{error}"
    );
    assert!(error.to_string().contains("is full after"), "{error}");
    let bin = disk.0.path().join("run/state/bin");
    assert_eq!(
        std::fs::read_dir(&bin)
            .context("list what is left")?
            .count(),
        0,
        "the part is removed"
    );
    let _client_hung_up = server.await?;
    Ok(())
}
