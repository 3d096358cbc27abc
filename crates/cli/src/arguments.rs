//! The command line's grammar. Flags and names as the original's where they exist; no flag takes a secret.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::Timestamp;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    internal error
  2    wrong command line, or evidence that can not be read
  3    trust: a machine did not prove what it must
  4    configuration: a file of the workspace is wrong or missing
  5    infrastructure: a program, memory, disk space, a port or a machine is missing
  6    cluster: it does not do what it should, or not in time
  130  interrupted";

/// Always-encrypted Kubernetes of measured machines.
#[derive(Debug, Parser)]
#[command(name = "constellation", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Directory with the files of the cluster
    #[arg(
        short = 'C',
        long,
        global = true,
        default_value = ".",
        value_name = "DIR"
    )]
    pub workspace: PathBuf,
    /// Say more on stderr
    #[arg(long, global = true)]
    pub debug: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make, check and change the config file
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Check a policy, and say what it accepts and which known attacks it closes
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// A cluster of QEMU machines on this host
    #[command(subcommand)]
    Mini(MiniCommand),
    /// Make a cluster on machines that exist: endpoint and init secret come from the state file
    Apply(ApplyArguments),
    /// Demand evidence from every node and print each check
    Verify(VerifyArguments),
    /// Give machines that wait for the key of their disk that key: after all control planes were off at once
    Recover(RecoverArguments),
    /// Make a backup of the cluster, look into one, make a cluster of one
    #[command(subcommand)]
    Backup(BackupCommand),
    /// What hardware vendors publish about their machines: fetch it, look at it, carry it to a site without Internet
    #[command(subcommand)]
    Collateral(CollateralCommand),
    /// Verify evidence that lies in files, or look at it
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Show the cluster's version and nodes
    Status(OutputArguments),
    /// Print the version of this program
    Version(OutputArguments),
    /// Print a completion script for a shell
    Completion(CompletionArguments),
    /// Write man pages
    #[command(hide = true)]
    Man(ManArguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Write a new config file
    Generate(GenerateArguments),
    /// Put the measurements of an image into the config file
    FetchMeasurements(ImageArguments),
    /// Check the config file and print what it asks for
    Check,
    /// List the releases of Kubernetes a cluster can have
    KubernetesVersions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Say what a policy accepts, which known attacks it closes, which it does not, and why
    Explain(PolicyExplainArguments),
    /// Check a policy document, and warn of what will soon be wrong with it
    Check(PolicyCheckArguments),
}

#[derive(Debug, Args)]
pub(crate) struct PolicyExplainArguments {
    /// The policy document; `-` for stdin [default: the policy of the config file]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub presets: PresetArguments,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: DataFormat,
}

#[derive(Debug, Args)]
pub(crate) struct PolicyCheckArguments {
    /// The policy document; `-` for stdin
    pub file: PathBuf,
    #[command(flatten)]
    pub presets: PresetArguments,
}

#[derive(Debug, Args)]
pub(crate) struct PresetArguments {
    /// A preset to add to those the policy names: one of this release by its name, or a file in the same form. What it
    /// demands is added, and nothing is taken away. May be repeated
    #[arg(long, value_name = "NAME|FILE")]
    pub preset: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataFormat {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProviderName {
    /// Machines on this host
    Qemu,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttestationVariant {
    /// A TPM in software: for development, no protection against the host
    #[default]
    QemuVtpm,
}

#[derive(Debug, Args)]
pub(crate) struct ImageArguments {
    /// Directory of the image: image.raw, measurements.json, info.json [default: target/image]
    #[arg(long, value_name = "DIR")]
    pub image_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// Where the machines run
    pub provider: ProviderName,
    #[command(flatten)]
    pub image: ImageArguments,
    /// Release of Kubernetes
    #[arg(short, long, value_name = "VERSION")]
    pub kubernetes: Option<String>,
    /// How the machines prove what they run
    #[arg(short, long, value_enum, default_value_t)]
    pub attestation: AttestationVariant,
    /// Name of the cluster
    #[arg(long, default_value = "mini")]
    pub name: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MiniCommand {
    /// Start the cluster; continues where an earlier run stopped
    Up(UpArguments),
    /// Stop the cluster and remove everything but the config file
    Down(DownArguments),
    /// Show the machines and what they do
    Status(OutputArguments),
    /// Show the console of a machine, or the log of the background process
    Logs(LogsArguments),
    /// Write what crosses the network between the machines as a pcap file
    Capture(CaptureArguments),
    /// The background process: metadata, components, the network between the machines
    #[command(hide = true)]
    Serve,
}

#[derive(Debug, Args)]
pub(crate) struct UpArguments {
    #[command(flatten)]
    pub image: ImageArguments,
    /// Directory of this host, or https URL, with the files of Kubernetes, laid out like dl.k8s.io
    #[arg(long, value_name = "DIR|URL", env = "CONSTELLATION_COMPONENTS")]
    pub components: Option<String>,
    /// Put the cluster into the kubeconfig that kubectl reads by default, and make it the current context
    #[arg(long)]
    pub merge_kubeconfig: bool,
    /// Number of control planes; for a new config file
    #[arg(long, value_name = "N")]
    pub control_planes: Option<u32>,
    /// Number of workers; for a new config file
    #[arg(long, value_name = "N")]
    pub workers: Option<u32>,
    /// Make the cluster of this backup; constellation-mastersecret.json must be that of the old cluster
    #[arg(long, value_name = "FILE")]
    pub restore: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DownArguments {
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// A machine, such as control-plane-0; `serve` for the background process
    #[arg(default_value = "control-plane-0")]
    pub name: String,
    /// Keep printing what is added
    #[arg(short, long)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CaptureArguments {
    /// The file to write; `-` for stdout
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    pub write: PathBuf,
    /// Stop after so many seconds; without it, on Ctrl-C
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    /// Directory of this host, or https URL, with the files of Kubernetes, laid out like dl.k8s.io
    #[arg(long, value_name = "DIR|URL", env = "CONSTELLATION_COMPONENTS")]
    pub components: Option<String>,
    /// Put the cluster into the kubeconfig that kubectl reads by default, and make it the current context
    #[arg(long)]
    pub merge_kubeconfig: bool,
    /// Make the cluster of this backup; the same as `backup restore`
    #[arg(long, value_name = "FILE")]
    pub restore: Option<PathBuf>,
    /// Phases to leave out; machines are never made by `apply` of this release, so leaving that out changes nothing
    #[arg(long, value_enum, value_name = "PHASE", value_delimiter = ',')]
    pub skip_phases: Vec<Phase>,
    /// Do not ask; nothing that `apply` of this release does needs to be confirmed
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Write everything in the cluster's store to a file, sealed with a key that comes from the master secret
    Create(BackupCreateArguments),
    /// Check a backup whole and print what it is of
    Inspect(BackupFileArguments),
    /// Make a new cluster of a backup: new machines, the old master secret
    Restore(BackupRestoreArguments),
}

#[derive(Debug, Args)]
pub(crate) struct BackupCreateArguments {
    /// The file to write [default: constellation-backup-<name>-<time>.backup in the workspace]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// A control plane to ask (host or host:port), instead of those the state file knows; may be repeated
    #[arg(short = 'e', long, value_name = "HOST[:PORT]")]
    pub endpoint: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct BackupFileArguments {
    /// The backup
    pub file: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct BackupRestoreArguments {
    /// The backup
    pub file: PathBuf,
    /// Directory of this host, or https URL, with the files of Kubernetes, laid out like dl.k8s.io
    #[arg(long, value_name = "DIR|URL", env = "CONSTELLATION_COMPONENTS")]
    pub components: Option<String>,
    /// Put the cluster into the kubeconfig that kubectl reads by default, and make it the current context
    #[arg(long)]
    pub merge_kubeconfig: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CollateralCommand {
    /// Fetch everything that evidence needs to be verified
    Fetch(CollateralFetchArguments),
    /// Show what is there, how old it is and until when its vendor vouches for it
    List(CollateralListArguments),
    /// Write a bundle: one file that `import` takes elsewhere
    Export(CollateralExportArguments),
    /// Take what is in a bundle
    Import(CollateralImportArguments),
}

#[derive(Debug, Args)]
pub(crate) struct CollateralPlace {
    /// Directory of the collateral [default: constellation/collateral in the user's cache directory]
    #[arg(long, value_name = "DIR", env = "CONSTELLATION_COLLATERAL")]
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CollateralFetchArguments {
    /// Evidence of one machine each: a directory of files, or one file. Known by content: SNP reports, reports of Azure's
    /// paravisor, TDX quotes, certificates
    #[arg(value_name = "EVIDENCE", required_unless_present = "item")]
    pub evidence: Vec<PathBuf>,
    /// Fetch this as well, by the name that `list` shows, such as amd-crl/milan/vcek; may be repeated
    #[arg(long, value_name = "ITEM")]
    pub item: Vec<String>,
    /// Product line of the AMD processor, for reports of version 2, which do not say it
    #[arg(long, value_enum)]
    pub product: Option<ProductName>,
    /// Which of Intel's statements: after a security update, `early` asks for it at once, `standard` some months later
    #[arg(long, value_enum, default_value_t)]
    pub update: UpdateName,
    /// Ask the vendors even for what is fresh
    #[arg(long, conflicts_with = "offline")]
    pub refresh: bool,
    /// Ask nobody: only say what is there and what is missing
    #[arg(long)]
    pub offline: bool,
    /// Be content with what is stale when a vendor can not be asked
    #[arg(long)]
    pub allow_stale: bool,
    /// How long to wait for each item; AMD gives one address about one chip's certificate in ten seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub timeout: u64,
    /// Base URL in place of AMD's service: a mirror or a caching proxy
    #[arg(long, value_name = "URL")]
    pub amd: Option<String>,
    /// Base URL in place of Intel's service: a mirror or a caching proxy
    #[arg(long, value_name = "URL")]
    pub intel: Option<String>,
    /// URL of the revocation list of Intel's root, whole
    #[arg(long, value_name = "URL")]
    pub intel_root_crl: Option<String>,
    /// Fetch revocation lists also from URLs that begin so, such as http://host/path/; may be repeated
    #[arg(long, value_name = "PREFIX")]
    pub allow_crl: Vec<String>,
    #[command(flatten)]
    pub place: CollateralPlace,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProductName {
    /// EPYC 7003
    Milan,
    /// EPYC 9004, 8004 and 97x4
    Genoa,
    /// EPYC 9005
    Turin,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum UpdateName {
    /// At once
    Early,
    /// When platforms have had time
    #[default]
    Standard,
}

#[derive(Debug, Args)]
pub(crate) struct CollateralListArguments {
    #[command(flatten)]
    pub place: CollateralPlace,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct CollateralExportArguments {
    /// The file to write
    pub file: PathBuf,
    /// What to put into it: a name that `list` shows, or the beginning of some [default: everything]
    #[arg(value_name = "ITEM")]
    pub items: Vec<String>,
    #[command(flatten)]
    pub place: CollateralPlace,
}

#[derive(Debug, Args)]
pub(crate) struct CollateralImportArguments {
    /// The bundle
    pub file: PathBuf,
    #[command(flatten)]
    pub place: CollateralPlace,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Decide whether evidence is genuine and, with a policy, whether its machine is accepted. Exit code 3 if not, 2 if
    /// it can not be read
    Verify(EvidenceVerifyArguments),
    /// Print every field of evidence in words; decides nothing
    Inspect(EvidenceInspectArguments),
}

/// Of evidence in files; the names are those of folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EvidenceVariant {
    /// SEV-SNP, signed by the chip's key: report.bin, vek.der
    SnpVcek,
    /// SEV-SNP, signed by a cloud's key: report.bin, vek.der
    SnpVlek,
    /// Intel TDX: quote.bin
    Tdx,
    /// Confidential VM of Azure on SEV-SNP: hcl-report.bin, vek.der, quote.msg, quote.sig, pcrs.json
    AzureSnpVtpm,
    /// Confidential VM of Azure on TDX: hcl-report.bin, quote.bin, quote.msg, quote.sig, pcrs.json
    AzureTdxVtpm,
    /// Trusted Launch of Azure: akcert.der, quote.msg, quote.sig, pcrs.json
    AzureVtpm,
    /// Shielded VM of Google: akcert.der or ak-chain.pem, quote.msg, quote.sig, pcrs.json
    GcpVtpm,
    /// A TPM whose key you vouch for: ak.pem or ak.der, quote.msg, quote.sig, pcrs.json
    Swtpm,
    /// Document of an EC2 instance: document.cbor
    AwsNitrotpm,
    /// Document of an enclave: document.cbor
    AwsNitroEnclave,
    /// Certificate of a TPM's key: cert.der. The maker's root comes with --endorsements
    TpmEk,
    /// Event log of a TPM or of a trust domain: eventlog.bin
    Eventlog,
    /// NVIDIA GPU: report.bin, chain.pem
    NvidiaGpu,
    /// Certificates and revocation lists of vendors; no evidence
    Roots,
    /// What Intel states about platforms; no evidence
    TdxCollateral,
}

#[derive(Debug, Args)]
pub(crate) struct EvidenceVerifyArguments {
    /// Of what kind the evidence is
    #[arg(long, value_enum, value_name = "VARIANT")]
    pub variant: EvidenceVariant,
    /// The directory with its files
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// What the machine must be; without it, only that the evidence is genuine and its firmware current is decided
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The time at which everything must hold, such as 2026-11-27T10:00:00Z [default: now]
    #[arg(long, value_name = "RFC3339")]
    pub at: Option<Timestamp>,
    /// The 64 bytes that a report or quote of the processor must have been made over, in hexadecimal
    #[arg(long, value_name = "HEX", conflicts_with = "nonce")]
    pub report_data: Option<String>,
    /// What a TPM's quote, a document or a GPU's report must have been made over, in hexadecimal
    #[arg(long, value_name = "HEX")]
    pub nonce: Option<String>,
    /// What vendors publish: a directory with certificates, revocation lists and Intel's statements, that of
    /// `collateral fetch`, or a bundle. The vendors' roots are built in. May be repeated
    #[arg(long, value_name = "DIR")]
    pub endorsements: Vec<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct EvidenceInspectArguments {
    /// Of what kind the evidence is
    #[arg(long, value_enum, value_name = "VARIANT")]
    pub variant: EvidenceVariant,
    /// The directory with its files
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phase {
    /// Making the machines
    Infrastructure,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Verify the machine at this address (host or host:port) instead of every node
    #[arg(short = 'e', long, value_name = "HOST[:PORT]")]
    pub node_endpoint: Option<String>,
    /// The cluster the machines must belong to, instead of the one in the state file
    #[arg(long, value_name = "HEX")]
    pub cluster_id: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: VerifyFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum VerifyFormat {
    /// Trees of checks
    #[default]
    Tree,
    /// One line for each node
    Table,
    /// Everything, for programs
    Json,
    /// The evidence as it came and the nonce it was made for, in hexadecimal, as JSON
    Raw,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverArguments {
    /// Address of a machine, or of a load balancer before several; repeat it for more [default: every control plane
    /// and the cluster's endpoint]
    #[arg(short, long, value_name = "HOST[:PORT]")]
    pub endpoint: Vec<String>,
    /// How long to look on after the last machine that was found
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub wait: u64,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArguments {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionArguments {
    /// The shell
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// Where to write them
    pub directory: PathBuf,
}
