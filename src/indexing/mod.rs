//! The runs of the set index: when they are built and merged, and building them.

mod build;
mod plan;

pub(crate) use build::build;
pub(crate) use plan::{Step, plan};
