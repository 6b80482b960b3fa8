use super::names::{SEGMENTS, TEMPORARY};
use super::operations::uninterrupted;
use super::*;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(unix)]
use libc::{EIO, ENOSPC};
use tempfile::TempDir;

/// Returns the error of an operation that was asked for this many times before.
type Fails = fn(u32) -> Option<io::Error>;

/// A system that writes one byte at a time, and of which some operations fail.
#[derive(Debug)]
struct Odd {
    creates: Fails,
    links: Fails,
    syncs: Fails,
    available_bytes: Option<u64>,
    /// How often creating, linking and syncing were asked for.
    asked: [AtomicU32; 3],
    /// The folders that were synced, in order.
    synced: Mutex<Vec<PathBuf>>,
}

fn system_error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// `ERROR_IO_DEVICE`.
#[cfg(not(unix))]
const EIO: i32 = 1117;
/// `ERROR_DISK_FULL`.
#[cfg(not(unix))]
const ENOSPC: i32 = 112;

fn writing(operations: Arc<dyn Operations>) -> Writing {
    Writing {
        operations,
        fast_fsync: false,
        write_block_bytes: SMALL_BLOCK_BYTES,
    }
}

impl Default for Odd {
    fn default() -> Self {
        Self {
            creates: |_| None,
            links: |_| None,
            syncs: |_| None,
            available_bytes: None,
            asked: Default::default(),
            synced: Mutex::default(),
        }
    }
}

impl Odd {
    fn ask(&self, which: usize, fails: Fails) -> io::Result<()> {
        let before = self.asked[which].fetch_add(1, Ordering::Relaxed);
        fails(before).map_or(Ok(()), Err)
    }

    /// Creates a folder that these operations change.
    fn created(self) -> (Dir, Arc<Self>, TempDir) {
        let root = TempDir::new().unwrap();
        let operations = Arc::new(self);
        let seam = Arc::clone(&operations) as Arc<dyn Operations>;
        let dir = Dir::create(root.path(), writing(seam)).unwrap();
        operations.synced.lock().unwrap().clear();
        (dir, operations, root)
    }
}

fn open(root: &Path) -> Result<Option<Dir>> {
    Dir::open(root, writing(Arc::new(System)))
}

fn create(root: &Path) -> Result<Dir> {
    Dir::create(root, writing(Arc::new(System)))
}

impl Operations for Odd {
    fn create(&self, path: &FilePath) -> io::Result<File> {
        self.ask(0, self.creates)?;
        System.create(path)
    }

    fn write_at(&self, file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<usize> {
        // Larger writes are carried out as a whole, since they would take long.
        let len = if bytes.len() < 100 { 1 } else { bytes.len() };
        System.write_at(file, path, &bytes[..len], offset)
    }

    fn sync_file(&self, _: &File, _: &Path, _: bool) -> io::Result<()> {
        self.ask(2, self.syncs)
    }

    fn sync_dir(&self, folder: &Folder) -> io::Result<()> {
        self.synced.lock().unwrap().push(folder.to_path_buf());
        Ok(())
    }

    fn hard_link(&self, from: &FilePath, to: &FilePath) -> io::Result<()> {
        self.ask(1, self.links)?;
        System.hard_link(from, to)
    }

    fn available_bytes(&self, _: &Folder) -> Option<u64> {
        self.available_bytes
    }
}

fn kind<T>(result: Result<T>) -> Option<io::ErrorKind> {
    match result {
        Err(Error::Io { source, .. }) => Some(source.kind()),
        _ => None,
    }
}

fn code<T>(result: Result<T>) -> Option<i32> {
    match result {
        Err(Error::Io { source, .. }) => source.raw_os_error(),
        _ => None,
    }
}

#[test]
fn a_write_goes_on_after_the_system_wrote_only_a_part() {
    let (dir, _, _root) = Odd::default().created();
    let file = dir.create_segment_file(7, FileKind::Data).unwrap();
    file.write_all_at(b"some bytes", 0).unwrap();
    file.write_all_at(b" and more", 10).unwrap();
    let mut read = [0; 19];
    read_exact_at(file.file(), &mut read, 0).unwrap();
    assert_eq!(&read, b"some bytes and more");
    assert_eq!(file.len().unwrap(), 19);
    let beyond = read_exact_at(file.file(), &mut read, 1);
    assert_eq!(beyond.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

/// A file on another file system cannot be linked.
#[test]
fn a_file_that_cannot_be_linked_is_copied_whole() {
    let no_links = Odd {
        links: |_| Some(io::ErrorKind::CrossesDevices.into()),
        ..Odd::default()
    };
    let (dir, operations, _root) = no_links.created();
    let (target, _, _target_root) = Odd::default().created();
    let bytes: Vec<u8> = (0..=250_u8).cycle().take((5 << 19) + 7).collect();
    fs::write(dir.segment_path(7, FileKind::Data), &bytes).unwrap();
    dir.link_segment_file(7, FileKind::Data, &target).unwrap();
    assert_eq!(operations.asked[1].load(Ordering::Relaxed), 1);
    assert!(fs::read(target.segment_path(7, FileKind::Data)).unwrap() == bytes);
}

#[test]
fn h34_a_file_in_the_place_of_the_folder_is_an_error() {
    let root = TempDir::new().unwrap();
    let path = root.path().join(SEGMENTS);
    assert!(open(root.path()).unwrap().is_none());
    fs::write(&path, "a file").unwrap();
    let not_a_folder = Some(io::ErrorKind::NotADirectory);
    assert_eq!(kind(open(root.path())), not_a_folder);
    assert_eq!(kind(open(&path)), not_a_folder);
    assert!(kind(create(root.path())).is_some());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(open(root.path()).unwrap().is_some());
    let dir = create(root.path()).unwrap();

    fs::create_dir(dir.manifest_path()).unwrap();
    assert_eq!(kind(dir.read_manifest()), Some(io::ErrorKind::InvalidInput));
    assert!(kind(dir.remove_if_present(&dir.manifest_path())).is_some());
}

/// The process that created the folders may have been cut off before their names were durable.
#[test]
fn h12_names_of_folders_that_exist_already_are_synced_too() {
    let above = TempDir::new().unwrap();
    let root = above.path().join("store");
    fs::create_dir_all(root.join(SEGMENTS)).unwrap();
    let operations = Arc::new(Odd::default());
    let seam = Arc::clone(&operations) as Arc<dyn Operations>;
    Dir::create(&root, writing(seam)).unwrap();
    let synced = operations.synced.lock().unwrap();
    assert_eq!(*synced, [above.path().to_owned(), root]);
}

#[test]
fn a_path_that_is_too_long_fails_before_anything_is_created() {
    let root = TempDir::new().unwrap();
    let too_long = root.path().join("a".repeat(300));
    let error = Some(io::ErrorKind::InvalidFilename);
    assert_eq!(kind(create(&too_long)), error);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_temporary_that_a_crash_left_is_replaced_and_other_errors_are_returned() {
    let (dir, operations, _root) = Odd::default().created();
    let path = dir.segment_path(7, FileKind::Sidecar);
    let temporary = path.with_suffix(TEMPORARY);
    fs::write(&temporary, "left by a crash, and longer").unwrap();
    dir.replace_segment_file(7, FileKind::Sidecar, b"new")
        .unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert!(!temporary.exists());
    assert_eq!(operations.asked[0].load(Ordering::Relaxed), 2);

    // After another error there is no second attempt.
    let fails_once = Odd {
        creates: |before| (before == 0).then(|| system_error(EIO)),
        ..Odd::default()
    };
    let (dir, operations, _root) = fails_once.created();
    let result = dir.replace_segment_file(7, FileKind::Sidecar, b"new");
    assert_eq!(code(result), Some(EIO));
    assert_eq!(operations.asked[0].load(Ordering::Relaxed), 1);
}

#[test]
fn locking_returns_why_the_lock_file_cannot_be_created() {
    let full = Odd {
        creates: |_| Some(system_error(ENOSPC)),
        ..Odd::default()
    };
    let (dir, _, _root) = full.created();
    assert_eq!(code(dir.lock()), Some(ENOSPC));
}

/// Somebody has just put something else in the place of the lock file.
#[cfg(unix)]
#[test]
fn a_lock_file_whose_identity_cannot_be_read_is_an_error_and_not_a_lock() {
    #[derive(Debug, Default)]
    struct LoopOfLinks(AtomicU32);
    impl Operations for LoopOfLinks {
        fn create(&self, path: &FilePath) -> io::Result<File> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let file = System.create(path)?;
            fs::remove_file(path)?;
            std::os::unix::fs::symlink(path, path)?;
            Ok(file)
        }
    }

    let root = TempDir::new().unwrap();
    let operations = Arc::new(LoopOfLinks::default());
    let seam = Arc::clone(&operations);
    let dir = Dir::create(root.path(), writing(seam)).unwrap();
    match dir.lock() {
        Err(Error::Io { path, .. }) => assert_eq!(path, dir.path().join("LOCK")),
        other => panic!("{other:?}"),
    }
    // The file was taken for one that somebody else replaced, and the second attempt follows no
    // link.
    assert_eq!(operations.0.load(Ordering::Relaxed), 2);
}

/// With whole blocks the page cache keeps each in one piece, whatever the lengths of the records
/// are.
#[test]
fn a_file_is_written_in_whole_blocks_whatever_is_appended() {
    /// The offset and the length of each write.
    #[derive(Debug, Default)]
    struct Writes(Mutex<Vec<(u64, usize)>>);
    impl Operations for Writes {
        fn write_at(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> io::Result<usize> {
            self.0.lock().unwrap().push((at, bytes.len()));
            System.write_at(file, path, bytes, at)
        }
    }

    const BLOCK_BYTES: usize = 8;
    let bytes: Vec<u8> = (0..61).collect();
    for appended_bytes in 1..=bytes.len() {
        let root = TempDir::new().unwrap();
        let log = Arc::new(Writes::default());
        let operations = Arc::clone(&log) as Arc<dyn Operations>;
        let dir = Dir::create(root.path(), writing(operations)).unwrap();
        let file = dir.create_segment_file(7, FileKind::Data).unwrap();
        let mut writer = BlockWriter::new(&file, BLOCK_BYTES);
        let mut position = 0;
        for part in bytes.chunks(appended_bytes) {
            // An empty content appends nothing.
            writer.append(b"").unwrap();
            writer.append(part).unwrap();
            position += part.len() as u64;
            assert_eq!(writer.position(), position);
            let written_bytes = log
                .0
                .lock()
                .unwrap()
                .iter()
                .map(|(_, len)| len)
                .sum::<usize>();
            assert_eq!(writer.written_bytes(), written_bytes as u64);
            assert!(position - writer.written_bytes() < BLOCK_BYTES as u64);
        }
        assert_eq!(writer.finish().unwrap(), 61);
        assert!(fs::read(dir.segment_path(7, FileKind::Data)).unwrap() == bytes);
        let log = log.0.lock().unwrap();
        let (last, whole) = log.split_last().unwrap();
        assert_eq!(last.0 % BLOCK_BYTES as u64, 0);
        for (at, len) in whole {
            assert_eq!((at % BLOCK_BYTES as u64, len % BLOCK_BYTES), (0, 0));
        }
    }
}

/// H1: before a file is begun, there is room for its length in whole blocks, or the error says how
/// much is missing.
#[test]
fn h1_room_is_counted_in_whole_blocks() {
    let nearly_full = Odd {
        available_bytes: Some(3 * 4096),
        ..Odd::default()
    };
    let (dir, _, _root) = nearly_full.created();
    dir.require_space([1, 4096, 4096]).unwrap();
    match dir.require_space([1, 4097, 4096]) {
        Err(Error::NoSpace {
            needed_bytes,
            available_bytes,
            ..
        }) => assert_eq!((needed_bytes, available_bytes), (4 * 4096, 3 * 4096)),
        other => panic!("{other:?}"),
    }
    // A file system that does not say how much room it has does not count as full.
    let (dir, _, _root) = Odd::default().created();
    dir.require_space([u64::MAX]).unwrap();
}

#[test]
fn a_segment_is_held_while_one_of_its_files_exists() {
    let (dir, _, _root) = Odd::default().created();
    assert!(!dir.holds_segment(7));
    for kind in [FileKind::Data, FileKind::Sidecar, FileKind::Journal] {
        fs::write(dir.segment_path(7, kind), "x").unwrap();
        assert!(dir.holds_segment(7) && !dir.holds_segment(8));
        dir.remove_segment(7).unwrap();
        assert!(!dir.holds_segment(7));
    }
    // Bytes that recovery cut off and saved do not belong to the segment.
    fs::write(dir.segment_path(7, FileKind::Torn), "x").unwrap();
    assert!(!dir.holds_segment(7));
}

#[test]
fn h10_every_change_is_refused_after_a_failed_fsync() {
    let fails_once = Odd {
        syncs: |before| (before == 0).then(|| system_error(EIO)),
        ..Odd::default()
    };
    let (dir, operations, _root) = fails_once.created();
    let file = dir.create_segment_file(7, FileKind::Data).unwrap();
    assert_eq!(code(file.sync()), Some(EIO));
    let reason = match dir.check_writable() {
        Err(Error::Poisoned { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason.contains("seg-000007.dat") && reason.contains("fsync"));
    assert!(matches!(file.sync(), Err(Error::Poisoned { .. })));
    assert!(matches!(
        file.write_all_at(b"x", 0),
        Err(Error::Poisoned { .. })
    ));
    assert_eq!(operations.asked[2].load(Ordering::Relaxed), 1);
}

#[test]
fn every_change_is_refused_after_closing() {
    let (dir, operations, _root) = Odd::default().created();
    let file = dir.create_segment_file(7, FileKind::Data).unwrap();
    dir.close();
    assert!(matches!(dir.check_writable(), Err(Error::Closed)));
    assert!(matches!(file.write_all_at(b"x", 0), Err(Error::Closed)));
    assert!(matches!(file.sync(), Err(Error::Closed)));
    assert_eq!(operations.asked[2].load(Ordering::Relaxed), 0);
}

#[test]
fn an_operation_that_a_signal_interrupts_is_tried_again() {
    let mut left = 3;
    let result = uninterrupted(|| {
        if left == 0 {
            return Ok("done");
        }
        left -= 1;
        Err(io::ErrorKind::Interrupted.into())
    });
    assert_eq!(result.unwrap(), "done");
    let mut asked = 0;
    let result: io::Result<()> = uninterrupted(|| {
        asked += 1;
        Err(system_error(EIO))
    });
    assert_eq!((result.unwrap_err().raw_os_error(), asked), (Some(EIO), 1));
}

/// Files that the kernel refuses to sync show that it is asked at all.
#[cfg(target_os = "linux")]
#[test]
fn an_fsync_reaches_the_system() {
    let null = File::open("/dev/null").unwrap();
    assert!(System.sync_file(&null, Path::new("null"), false).is_err());
    let root = TempDir::new().unwrap();
    let folder = Folder::open(root.path()).unwrap();
    System.sync_dir(&folder).unwrap();
    assert!(System.available_bytes(&folder) > Some(1 << 20));
    // /proc has no blocks, so it does not say how much room it has, and it cannot be synced.
    let without_blocks = Folder::open(Path::new("/proc")).unwrap();
    assert_eq!(System.available_bytes(&without_blocks), None);
    assert!(System.sync_dir(&without_blocks).is_err());
}
