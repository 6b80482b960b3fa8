//! The folder with the store's own files.

use std::fs;
use std::path::Path;

use same_file::Handle;

/// The folder with the store's own files. They are no user data, and no command writes there. The folder
/// is recognised by its identity, not by its path: a link or a mount can give it another one.
pub struct OwnFolder(Handle);

impl OwnFolder {
    /// Returns `None` if there is no store in `root`.
    pub fn of(root: &Path) -> Option<Self> {
        Handle::from_path(root.join("segments")).ok().map(Self)
    }

    /// Returns whether `path` leads to this folder.
    pub fn is(&self, path: &Path) -> bool {
        Handle::from_path(path).is_ok_and(|handle| handle == self.0)
    }

    /// Returns whether `path`, which need not exist, is this folder or is below it.
    pub fn contains(&self, path: &Path) -> bool {
        let mut existing = path.ancestors().filter_map(|path| {
            // The parent of a relative name is the working directory.
            let is_here = path.as_os_str().is_empty();
            fs::canonicalize(if is_here { Path::new(".") } else { path }).ok()
        });
        let existing = existing.next();
        existing.is_some_and(|path| path.ancestors().any(|path| self.is(path)))
    }
}
