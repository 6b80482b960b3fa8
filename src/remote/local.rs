//! The file `REMOTE`, in which a store notes what it knows of refs.

use std::any::Any;
use std::sync::Arc;

use super::base::Base;
use super::content::Content;
use super::format::{KnownRef, Nonce, RefManifest, Uploading, WriterState};
use super::refs::Ref;
use super::runtime::blocking;
use crate::dir::Dir;
use crate::error::{Error, RemoteError, Result};
use crate::format::FormatError;

/// Keeps the folder locked, and the store from a second push, while the file is replaced.
pub(super) type Held = Arc<dyn Any + Send + Sync>;

/// The file `REMOTE` of a locked folder, and what it says.
#[derive(Debug)]
pub(super) struct Local {
    dir: Dir,
    /// A replacement goes on in its thread when the future that waits for it is dropped, so it holds this
    /// too. Otherwise it could come after that of a later push.
    held: Held,
    state: WriterState,
}

impl Local {
    /// Reads the file. A store without one, or with a damaged one, becomes a new writer.
    pub(super) fn load(dir: &Dir, held: Held) -> Result<Self> {
        let path = dir.remote_state_path();
        let state = match dir.read_remote_state()?.as_deref().map(WriterState::parse) {
            Some(Ok(state)) => state,
            Some(Err(FormatError::Version)) => {
                let object = path.display().to_string();
                return Err(RemoteError::UnsupportedVersion { object }.into());
            }
            Some(Err(_)) | None => WriterState::new(Nonce::random().map_err(Error::io(&path))?),
        };
        let dir = dir.clone();
        Ok(Self { dir, held, state })
    }

    /// Takes a new random number.
    pub(super) fn nonce(&self) -> Result<Nonce> {
        Nonce::random().map_err(Error::io(self.dir.path()))
    }

    /// The name of the store as a writer.
    pub(super) fn writer(&self) -> Nonce {
        self.state.writer
    }

    /// Returns the epoch of a push onto the newest manifest, or an error if this store may not push.
    pub(super) fn allow(&mut self, at: &Ref, base: &Base, content: &Content) -> Result<u64> {
        let newest = &base.manifest;
        let known = self.state.refs.entry(newest.ref_id).or_default();
        // A push whose number has another manifest was not committed, and never will be. A damaged
        // manifest does not tell which push it is.
        let may_be = |push: &Nonce, number: u64| number > newest.number || *push == newest.push;
        known
            .doubt
            .retain(|push, number| base.is_damaged || may_be(push, *number));
        let knows_push =
            known.pushed == Some(newest.push) || known.doubt.contains_key(&newest.push);
        let is_writer = newest.writer == self.state.writer;
        let has_gone_on = content.highest_id >= known.highest_id
            && newest
                .state
                .as_ref()
                .is_some_and(|pushed| content.may_follow(pushed));
        if !base.is_damaged && is_writer && knows_push && has_gone_on {
            return Ok(newest.epoch);
        }
        if base.is_taken_over {
            return Ok(newest.epoch.saturating_add(1));
        }
        let object = at.bucket.display(&at.manifest_object(newest.number));
        Err(if is_writer {
            RemoteError::Diverged { object }
        } else {
            RemoteError::Fenced { object }
        }
        .into())
    }

    /// Returns the folder for a push onto the newest manifest, and whether a push that was cut off has
    /// begun to fill it.
    pub(super) fn folder(&self, newest: &RefManifest) -> Result<(Nonce, bool)> {
        let known = self.state.refs.get(&newest.ref_id);
        match known.and_then(|known| known.uploading) {
            Some(Uploading { folder, base }) if base == newest.number => Ok((folder, true)),
            _ => Ok((self.nonce()?, false)),
        }
    }

    /// Notes durably that a push is about to begin.
    pub(super) async fn note_begin(
        &mut self,
        newest: &RefManifest,
        folder: Nonce,
        highest_id: u32,
    ) -> Result<()> {
        let base = newest.number;
        let known = self.known(newest.ref_id);
        known.uploading = Some(Uploading { folder, base });
        // Also if it is lower, which it is only if the ref is taken over.
        known.highest_id = highest_id;
        self.save().await
    }

    /// Notes durably that the creation of a manifest is about to begin.
    pub(super) async fn note_doubt(&mut self, manifest: &RefManifest) -> Result<()> {
        let known = self.known(manifest.ref_id);
        known.doubt.insert(manifest.push, manifest.number);
        self.save().await
    }

    /// Notes durably that a push was committed.
    pub(super) async fn note_pushed(&mut self, manifest: &RefManifest) -> Result<()> {
        let known = self.known(manifest.ref_id);
        known.pushed = Some(manifest.push);
        known.uploading = None;
        // Whatever was in doubt has lost to this manifest or came before it.
        known.doubt.clear();
        self.save().await
    }

    /// Notes durably that the store holds the state of a push, by whomever.
    pub(super) async fn note_pulled(
        &mut self,
        manifest: &RefManifest,
        highest_id: u32,
    ) -> Result<()> {
        let pulled = KnownRef {
            pushed: Some(manifest.push),
            highest_id,
            ..KnownRef::default()
        };
        self.state.refs.insert(manifest.ref_id, pulled);
        self.save().await
    }

    /// Notes that the folder of the push was condemned, so that the next one begins with another.
    pub(super) fn forget_folder(&mut self, ref_id: Nonce) {
        self.known(ref_id).uploading = None;
    }

    fn known(&mut self, ref_id: Nonce) -> &mut KnownRef {
        self.state.refs.entry(ref_id).or_default()
    }

    async fn save(&self) -> Result<()> {
        let (dir, text) = (self.dir.clone(), self.state.encode());
        let held = Arc::clone(&self.held);
        let replace = move || {
            let replaced = dir.replace_remote_state(&text);
            drop(held);
            replaced
        };
        blocking(replace).await
    }
}
