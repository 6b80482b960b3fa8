//! The arguments of the commands for object stores.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sealstone::Digest;

use crate::args::Waiting;
use crate::help;

#[derive(Debug, Args)]
#[command(after_long_help = help::PUSH)]
pub struct PushArguments {
    /// The ref to push to
    #[arg(long = "ref", value_name = "NAME", default_value = "main")]
    pub name: String,

    /// Push although another store pushed last; the ref then lists this store instead
    #[arg(long)]
    pub take_over: bool,

    #[command(flatten)]
    pub waiting: Waiting,

    /// The bucket, or a folder in it
    #[arg(value_name = "URL")]
    pub url: String,
}

#[derive(Debug, Args)]
#[command(after_long_help = help::PULL)]
pub struct PullArguments {
    /// The ref to pull
    #[arg(long = "ref", value_name = "NAME", default_value = "main")]
    pub name: String,

    /// The bucket, or a folder in it
    #[arg(value_name = "URL")]
    pub url: String,

    /// Folder of the store
    #[arg(value_name = "DIR")]
    pub target: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum RemoteCommand {
    /// List the refs
    #[command(after_long_help = help::REMOTE_LS)]
    Ls(UrlArgument),
    /// Write the content of an object that a ref lists
    #[command(after_long_help = help::REMOTE_GET)]
    Get(RemoteGetArguments),
    /// Download and check all that a ref lists
    #[command(after_long_help = help::REMOTE_VERIFY)]
    Verify(VerifyRefArguments),
    /// Remove the files that no ref needs
    #[command(after_long_help = help::REMOTE_GC)]
    Gc(GcArguments),
}

#[derive(Debug, Args)]
pub struct UrlArgument {
    /// The bucket, or a folder in it
    #[arg(value_name = "URL")]
    pub url: String,
}

#[derive(Debug, Args)]
pub struct RemoteGetArguments {
    /// The ref that lists the object
    #[arg(long = "ref", value_name = "NAME", default_value = "main")]
    pub name: String,

    /// Keep the index of the ref and what was read in DIR, for later calls
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// Most bytes of all files in the cache
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    pub cache_bytes: u64,

    /// Write to FILE instead of standard output; a regular file is replaced once all is written
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// The bucket, or a folder in it
    #[arg(value_name = "URL")]
    pub url: String,

    /// Digest of the object
    #[arg(value_name = "DIGEST")]
    pub digest: Digest,
}

#[derive(Debug, Args)]
pub struct VerifyRefArguments {
    /// The ref to check
    #[arg(long = "ref", value_name = "NAME", default_value = "main")]
    pub name: String,

    /// The bucket, or a folder in it
    #[arg(value_name = "URL")]
    pub url: String,
}

#[derive(Debug, Args)]
pub struct GcArguments {
    /// Keep what was needed within the last HOURS, by the clock of the object store
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub grace: u64,

    /// Print what a real run would remove, and remove nothing
    #[arg(long)]
    pub dry_run: bool,

    /// The bucket, or a folder in it
    #[arg(value_name = "URL")]
    pub url: String,
}
