//! Segments in an object store: Amazon S3, Google Cloud Storage, Azure, whatever speaks S3, or a folder.

pub mod format;
