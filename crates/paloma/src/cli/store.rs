//! `paloma store`: the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read everything in a store and compare it with its checksums.
    ///
    /// Exit codes: 0 all is as it was written, 1 something is lost or it cannot be read, 2 the command line is wrong.
    Check(DataArgs),
    /// Say how much there is of what.
    Stats(DataArgs),
    /// Write everything as JSON, one object a line, payloads in base64.
    ///
    /// What cannot be read is left out and said on stderr; the exit code is 1 then.
    Export(TransferArgs),
    /// Fill a new store with what an export wrote.
    ///
    /// Exit codes: 0 done; 1 the store is not empty, a line is not what an export writes, or something cannot be read or
    /// written. What came before a wrong line is in the store.
    Import(TransferArgs),
    /// Check a store, and if it is damaged put a new file with everything that can be read in its place.
    ///
    /// The old file stays beside the new one, and its name is printed. Whatever has happened to a store, a broker can
    /// start with it after that.
    ///
    /// Exit codes: 0 there was nothing to repair, or nothing was lost; 1 something is lost, or it cannot be repaired.
    Repair(DataArgs),
    /// Make the file of a store as short as it can be.
    Compact(DataArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// Directory of the store, which no broker may be using.
    #[arg(long, value_name = "DIR", default_value = "paloma-data")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TransferArgs {
    #[command(flatten)]
    pub(crate) data: DataArgs,

    /// The file; without it, standard output or input.
    pub(crate) file: Option<PathBuf>,
}
