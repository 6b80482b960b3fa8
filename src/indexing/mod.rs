//! The runs of the set index: decides when they are built and merged, and builds them.

mod build;
mod plan;

pub(crate) use build::build;
pub(crate) use plan::{Step, plan};
