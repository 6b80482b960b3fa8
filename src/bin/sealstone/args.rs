//! The arguments of the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sealstone::HashFunction;

use crate::digest_args::{ListPrefix, OrInput, WantedDigest};
use crate::help;
#[cfg(feature = "remote")]
use crate::remote_args::{PullArguments, PushArguments, RemoteCommand};

#[derive(Debug, Parser)]
#[command(
    name = "sealstone",
    version,
    max_term_width = 80,
    about = help::SHORT_ABOUT,
    long_about = help::ABOUT,
    after_long_help = help::SEALSTONE
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The folder of the store
    // clap allows no global option to be `required`, so `open.rs` asks for this one.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SEALSTONE_STORE",
        hide_env_values = true
    )]
    pub store: Option<PathBuf>,

    /// Print JSON, in the form that the help of each command shows
    #[arg(long, global = true)]
    pub json: bool,

    /// Go on without segments whose data files are missing; their objects are then not found
    #[arg(long, global = true)]
    pub allow_missing_segments: bool,
}

/// For commands that change the store.
#[derive(Clone, Copy, Debug, Args)]
pub struct Waiting {
    /// If another process has locked the store, wait this long for it; 0 is the default
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

impl Waiting {
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.wait.unwrap_or(0))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Store files and print their digests
    Put(PutArguments),
    /// Write the content of an object
    Get(GetArguments),
    /// Say whether objects are in the store
    Has(HasArguments),
    /// List the digests of the objects
    Ls(LsArguments),
    /// Show how much is stored, and in how many files
    Stat(StatArguments),
    /// Read everything, check it, and name each damaged object
    Verify(VerifyArguments),
    /// Drop every object that is not in a list, and give back its space
    Compact(CompactArguments),
    /// Compare files with the digests that `put` printed
    Check(CheckArguments),
    /// Make another store with the same objects, out of hard links
    Checkpoint(CheckpointArguments),
    /// Write all objects as a stream, for `import`
    Export(ExportArguments),
    /// Store the objects of a stream or of another store
    Import(ImportArguments),
    /// List the objects that only one of two stores holds
    Diff(DiffArguments),
    /// Upload the store to a ref of an object store
    #[cfg(feature = "remote")]
    Push(PushArguments),
    /// Make a store of what a ref of an object store lists
    #[cfg(feature = "remote")]
    Pull(PullArguments),
    /// List, check and clean up what is in an object store
    #[cfg(feature = "remote")]
    #[command(subcommand, after_long_help = help::REMOTE, disable_help_subcommand = true)]
    Remote(RemoteCommand),
    /// Print the script by which a shell completes commands and options
    Completions(CompletionsArguments),
    /// Print the manual page of the program or of a command
    Man(ManArguments),
}

#[derive(Debug, Args)]
#[command(after_long_help = help::PUT)]
pub struct PutArguments {
    /// Store every file below each folder
    #[arg(short, long)]
    pub recursive: bool,

    /// With -r, follow the symbolic links that are found
    #[arg(long, requires = "recursive")]
    pub follow: bool,

    /// Do not name what is skipped or created, and print no summary if every file is stored
    #[arg(short, long)]
    pub quiet: bool,

    /// The hash function of a store that is created: blake2b (the default), blake2b-256, sha256 or
    /// blake3
    #[arg(long, value_name = "FUNCTION")]
    pub hash: Option<HashFunction>,

    #[command(flatten)]
    pub waiting: Waiting,

    /// Files to store; `-` is standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::GET)]
pub struct GetArguments {
    /// Digest of the object, or its first digits, 6 or more; `-` reads whole digests from standard
    /// input
    #[arg(value_name = "DIGEST")]
    pub digest: OrInput<WantedDigest>,

    /// Write to FILE instead of standard output; a regular file is replaced once all is written
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::HAS)]
pub struct HasArguments {
    /// Print nothing, only set the exit code
    #[arg(short, long)]
    pub quiet: bool,

    /// Digests, or their first digits, 6 or more; `-` reads whole digests from standard input
    #[arg(required = true, value_name = "DIGEST")]
    pub digests: Vec<OrInput<WantedDigest>>,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::LS)]
pub struct LsArguments {
    /// Print the size of each object in bytes, too
    #[arg(short, long)]
    pub long: bool,

    /// List only digests that begin with these digits; `-` prints the sizes of the objects whose
    /// digests are on standard input
    #[arg(value_name = "PREFIX")]
    pub prefix: Option<OrInput<ListPrefix>>,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::STAT)]
pub struct StatArguments {
    /// Show the figures of each segment, too
    #[arg(long)]
    pub segments: bool,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::VERIFY, mut_arg("wait", |wait| wait.requires("repair")))]
pub struct VerifyArguments {
    /// Rebuild damaged indexes from their data; locks the store as a writer does
    #[arg(long)]
    pub repair: bool,

    /// If there is no damage, remove the cut-off ends of segments and the damaged manifests that were
    /// kept
    #[arg(long, requires = "repair")]
    pub remove_leftovers: bool,

    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::COMPACT)]
pub struct CompactArguments {
    /// File with the digests to keep, one a line; `-` is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "drop_everything")]
    pub live: Option<PathBuf>,

    /// Print what a real run would drop, and drop nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Accept a list with digests that are not in the store
    #[arg(long)]
    pub allow_unknown: bool,

    /// Drop every object; replaces --live, which refuses a list without an object of the store
    #[arg(long, conflicts_with_all = ["live", "allow_unknown"])]
    pub drop_everything: bool,

    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::CHECK)]
pub struct CheckArguments {
    /// Print no line for a file that is as it was, and no summary if all are
    #[arg(short, long)]
    pub quiet: bool,

    /// The hash function that printed the list, instead of that of the store; blake2b if neither is
    /// given
    #[arg(long, value_name = "FUNCTION")]
    pub hash: Option<HashFunction>,

    /// File with the lines that `put` printed; `-` is standard input
    #[arg(value_name = "LIST")]
    pub list: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::CHECKPOINT)]
pub struct CheckpointArguments {
    #[command(flatten)]
    pub waiting: Waiting,

    /// Folder of the new store; it does not exist, or is empty
    #[arg(value_name = "DIR")]
    pub target: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::EXPORT)]
pub struct ExportArguments {
    /// Leave out the objects whose digests are in LIST; `-` is standard input
    #[arg(long, value_name = "LIST")]
    pub except: Option<PathBuf>,

    /// Print no summary if every object is written
    #[arg(short, long)]
    pub quiet: bool,
}

// The options are those of the subcommand, too. A folder that has its name can be written with `./`.
#[derive(Debug, Args)]
#[command(
    override_usage = help::IMPORT_USAGE,
    after_long_help = help::IMPORT,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    mut_arg("quiet", |quiet| quiet.global(true)),
    mut_arg("wait", |wait| wait.global(true))
)]
pub struct ImportArguments {
    #[command(subcommand)]
    pub from: Option<ImportFrom>,

    #[command(flatten)]
    pub options: ImportOptions,

    /// File with a stream of `export`, or the folder of a store; `-` is standard input
    #[arg(value_name = "SOURCE", required = true)]
    pub source: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum ImportFrom {
    /// Store the objects that NEDB keeps in files of their own
    Nedb(NedbArguments),
}

#[derive(Debug, Args)]
#[command(after_long_help = help::IMPORT_NEDB)]
pub struct NedbArguments {
    /// Remove each file whose object is stored and synced
    #[arg(long)]
    pub remove: bool,

    /// The folder `objects` of NEDB
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

#[derive(Clone, Copy, Debug, Args)]
pub struct ImportOptions {
    /// Do not name a store that is created, and print no summary if all is stored
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::DIFF)]
pub struct DiffArguments {
    /// Folder of the other store
    #[arg(value_name = "OTHER")]
    pub other: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::COMPLETIONS)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::MAN)]
pub struct ManArguments {
    /// A command, for a page of its own
    #[arg(value_name = "COMMAND")]
    pub command: Option<String>,
}
