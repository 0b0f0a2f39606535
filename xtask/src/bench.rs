//! bench
use crate::process::Result;
/// Arguments
#[derive(clap::Args)]
pub(crate) struct Arguments {}
pub(crate) fn run(_: &Arguments) -> Result<bool> {
    Ok(true)
}
