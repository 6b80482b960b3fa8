//! A writer of NEDB v3 that can be killed between any two of its steps.
//!
//! It knows data files and sidecars and nothing else: no manifest, no journal, no lock. Where
//! NEDB's behaviour is not known, this writer does what hurts another writer more; such places say
//! "assumed".
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use super::layout::{self, data_name, file, is_kind, record, records, segments, sidecar_name};
use super::nedb::{Entry, Name, digest, parse_sidecar, sidecar};

/// The writer was killed. All that it had written is on disk, and nothing more.
#[derive(Debug)]
pub struct Killed;

/// The place of an object: segment, offset of its content, length.
type Place = (u32, u64, u32);

pub struct Nedb {
    root: PathBuf,
    segment_bytes_max: u64,
    index: BTreeMap<Name, Place>,
    /// The highest id, and the length of its data.
    active: u32,
    active_bytes: u64,
    /// The number of steps until the writer is killed.
    steps: Option<u64>,
}

impl Nedb {
    /// Opens a store as NEDB does: it believes valid sidecars, walks over segments without one, and
    /// appends to the highest segment, whoever wrote it.
    pub fn open(root: &Path, segment_bytes_max: u64, steps: Option<u64>) -> Result<Self, Killed> {
        fs::create_dir_all(segments(root)).unwrap();
        let ids = ids(root);
        let mut nedb = Self {
            root: root.to_owned(),
            segment_bytes_max,
            index: BTreeMap::new(),
            active: ids.last().copied().unwrap_or(0),
            active_bytes: 0,
            steps,
        };
        for id in &ids {
            nedb.load(*id)?;
        }
        if ids.is_empty() {
            nedb.create(0)?;
        }
        Ok(nedb)
    }

    fn load(&mut self, id: u32) -> Result<(), Killed> {
        let path = file(&self.root, &data_name(id));
        let data = fs::read(&path).unwrap();
        let listed = fs::read(file(&self.root, &sidecar_name(id))).ok();
        let listed = listed.and_then(|bytes| parse_sidecar(&bytes));
        let is_active = id == self.active;
        // Assumed: a valid sidecar is believed even if the data goes on behind its last entry. Only
        // in the segment that is appended to, the rest is walked over.
        let has_sidecar = listed.is_some();
        let known = listed.unwrap_or_default();
        let ends = known
            .iter()
            .map(|(_, offset, len)| offset + u64::from(*len));
        let listed_end = ends.max().unwrap_or(0);
        let mut end = listed_end;
        self.index_entries(id, &known);
        if !has_sidecar || is_active {
            let from = usize::try_from(listed_end).unwrap().min(data.len());
            for (offset, content) in records(&data[from..]) {
                let offset = offset + listed_end;
                let len = u32::try_from(content.len()).unwrap();
                self.index_entries(id, &[(digest(content), offset, len)]);
                end = offset + u64::from(len);
            }
        }
        if is_active {
            if (data.len() as u64) > end {
                self.step()?;
                let torn = File::options().write(true).open(path).unwrap();
                torn.set_len(end).unwrap();
            }
            self.active_bytes = end.min(data.len() as u64);
        }
        Ok(())
    }

    /// Assumed: a later entry for an object replaces an earlier one.
    fn index_entries(&mut self, id: u32, entries: &[Entry]) {
        for (name, offset, len) in entries {
            self.index.insert(*name, (id, *offset, *len));
        }
    }

    /// Takes one more step, or fails if the writer is killed here.
    fn step(&mut self) -> Result<(), Killed> {
        match &mut self.steps {
            Some(0) => Err(Killed),
            Some(steps) => {
                *steps -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Returns the bytes that the index names, or `None` also if they are not the content of this
    /// digest.
    pub fn get(&self, name: &Name) -> Option<Vec<u8>> {
        let (id, offset, len) = *self.index.get(name)?;
        let data = fs::read(file(&self.root, &data_name(id))).ok()?;
        let begin = usize::try_from(offset).unwrap();
        let content = data.get(begin..begin + len as usize)?;
        (digest(content) == *name).then(|| content.to_vec())
    }

    pub fn contains(&self, name: &Name) -> bool {
        self.index.contains_key(name)
    }

    /// Returns the names of all objects that can be read.
    pub fn readable(&self) -> BTreeSet<Name> {
        let files = layout::read_files(&self.root);
        let content_is_right = |(name, (id, offset, len)): &(&Name, &Place)| {
            let begin = usize::try_from(*offset).unwrap();
            let data = files.get(&data_name(*id));
            let content = data.and_then(|data| data.get(begin..begin + *len as usize));
            content.is_some_and(|content| digest(content) == **name)
        };
        let readable = self.index.iter().filter(content_is_right);
        readable.map(|(name, _)| *name).collect()
    }

    /// Appends the content unless it is held, and returns whether it did.
    pub fn put(&mut self, content: &[u8]) -> Result<bool, Killed> {
        if self.contains(&digest(content)) {
            return Ok(false);
        }
        if self.active_bytes >= self.segment_bytes_max {
            self.roll()?;
        }
        self.append(self.active, content)?;
        Ok(true)
    }

    /// Writes a record in three pieces, so that a kill can leave any part of it behind.
    fn append(&mut self, id: u32, content: &[u8]) -> Result<(), Killed> {
        let bytes = record(content);
        let path = file(&self.root, &data_name(id));
        let mut data = File::options().append(true).open(path).unwrap();
        let (header, half) = (3, 4 + content.len() / 2);
        for piece in [&bytes[..header], &bytes[header..half], &bytes[half..]] {
            self.step()?;
            data.write_all(piece).unwrap();
        }
        let len = u32::try_from(content.len()).unwrap();
        self.index_entries(id, &[(digest(content), self.active_bytes + 4, len)]);
        self.active_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Writes the sidecar of the active segment and begins the next.
    fn roll(&mut self) -> Result<(), Killed> {
        self.seal()?;
        self.create(self.active + 1)
    }

    fn create(&mut self, id: u32) -> Result<(), Killed> {
        self.step()?;
        // Assumed: a file that already has the name is appended to, and nobody looks at what it
        // holds.
        let path = file(&self.root, &data_name(id));
        File::options()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        self.active = id;
        self.active_bytes = 0;
        Ok(())
    }

    /// Writes a sidecar of all entries that the index has for the active segment, in the order of
    /// its hash table.
    fn seal(&mut self) -> Result<(), Killed> {
        let data = fs::read(file(&self.root, &data_name(self.active))).unwrap();
        let bytes = sidecar(&super::nedb::entries(&data));
        let temporary = file(&self.root, &format!("{}.tmp", sidecar_name(self.active)));
        let (front, back) = bytes.split_at(bytes.len() / 2);
        self.step()?;
        fs::write(&temporary, front).unwrap();
        self.step()?;
        fs::write(&temporary, [front, back].concat()).unwrap();
        self.step()?;
        fs::rename(temporary, file(&self.root, &sidecar_name(self.active))).unwrap();
        Ok(())
    }

    /// Fsyncs the active segment.
    pub fn sync(&mut self) -> Result<(), Killed> {
        self.step()?;
        let path = file(&self.root, &data_name(self.active));
        File::open(path).unwrap().sync_data().unwrap();
        Ok(())
    }

    /// Writes the live objects into new segments above the highest id, and unlinks all below, in
    /// the order of the ids or, with `shuffle`, in any.
    pub fn compact(
        &mut self,
        is_live: impl Fn(&Name) -> bool,
        shuffle: Option<&mut SmallRng>,
    ) -> Result<(), Killed> {
        let first = self.active + 1;
        let mut old: Vec<u32> = ids(&self.root).into_iter().collect();
        let live: Vec<Name> = self.index.keys().copied().filter(|n| is_live(n)).collect();
        let live: Vec<Vec<u8>> = live.iter().filter_map(|name| self.get(name)).collect();
        self.index.clear();
        self.create(first)?;
        for content in live {
            self.put(&content)?;
        }
        self.sync()?;
        if let Some(rng) = shuffle {
            old.shuffle(rng);
        }
        for id in old {
            for name in [data_name(id), sidecar_name(id)] {
                self.step()?;
                let _ = fs::remove_file(file(&self.root, &name));
            }
        }
        Ok(())
    }
}

/// Returns the ids of the data files in a folder.
fn ids(root: &Path) -> BTreeSet<u32> {
    let names = fs::read_dir(segments(root)).unwrap();
    let names = names.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names
        .filter(|name| is_kind(name, "dat"))
        .filter_map(|name| layout::segment_of(&name).filter(|id| data_name(*id) == name))
        .collect()
}
