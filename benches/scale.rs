//! What a large store costs: put rate, opening, reading, heap and disk.
//!
//!     cargo bench --bench scale -- [--objects N] [--bytes N] [--folder DIR] [--picture FILE]
//!
//! One run prints each figure once; run it several times and take medians, since a shared machine is
//! noisy. It is no regression test: those are in `store.rs`.

#![expect(
    clippy::cast_precision_loss,
    reason = "figures are printed with a few digits"
)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};
use sealstone::format::Index;
use sealstone::{Digest, Options, Store};

const LOOKUPS: usize = 1_000_000;

/// Environment variables that make this program a child of itself, with the store's folder as value.
const READ_IN_CHILD: &str = "SEALSTONE_SCALE_READ";
const KILL_IN_CHILD: &str = "SEALSTONE_SCALE_KILL";

fn child(name: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(name, root);
    command
}

/// Content number `number`; every run makes the same.
fn content(number: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    SmallRng::seed_from_u64(number).fill_bytes(&mut content);
    content
}

struct Arguments {
    objects: u64,
    bytes: usize,
    folder: Option<PathBuf>,
    picture: Option<PathBuf>,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments {
        objects: 1_000_000,
        bytes: 1024,
        folder: None,
        picture: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().expect("this option takes a value");
        match word.as_str() {
            "--objects" => arguments.objects = value().parse().expect("a number"),
            "--bytes" => arguments.bytes = value().parse().expect("a number"),
            "--folder" => arguments.folder = Some(value().into()),
            "--picture" => arguments.picture = Some(value().into()),
            "--bench" => {}
            other => panic!("{other}: the options are --objects, --bytes, --folder and --picture"),
        }
    }
    arguments
}

fn main() {
    let asked_to = |name| std::env::var_os(name).map(PathBuf::from);
    if let Some(root) = asked_to(READ_IN_CHILD) {
        return read(&root);
    }
    if let Some(root) = asked_to(KILL_IN_CHILD) {
        return fill_until_killed(&root);
    }
    let Arguments {
        objects,
        bytes,
        folder,
        picture,
    } = arguments();
    let temporary = tempfile::tempdir_in(folder.unwrap_or_else(std::env::temp_dir)).unwrap();
    let root = temporary.path().join("store");
    println!("{objects} objects of {bytes} bytes");
    let put_microseconds = fill(&root, objects, bytes);
    open_after_clean_close(&root);
    // In a process of its own, so that its heap is that of a reader.
    let output = child(READ_IN_CHILD, &root)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    print!("{printed}");
    disk(&root, objects * bytes as u64);
    open_after_kill(&root);
    if let Some(picture) = picture {
        let bars = [
            ("hashing it alone", figure(&printed, "hash of a hot buffer")),
            ("get, verified", figure(&printed, "verified random get")),
            ("put", put_microseconds),
        ];
        let title = format!("Microseconds for an object of {bytes} bytes, {objects} in the store");
        std::fs::write(picture, draw(&title, &bars)).unwrap();
    }
}

/// The number behind a name in what a child printed.
fn figure(printed: &str, name: &str) -> f64 {
    let line = printed.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|line| line.split_whitespace().next());
    word.and_then(|word| word.parse().ok())
        .expect("the child prints it")
}

/// Horizontal bars as SVG.
fn draw(title: &str, bars: &[(&str, f64)]) -> String {
    let longest = bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
    let mut svg = format!(
        concat!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 {}\" ",
            "font-family=\"sans-serif\" font-size=\"14\">\n",
            "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
            "<text x=\"16\" y=\"26\" font-weight=\"bold\">{}</text>\n"
        ),
        48 + 34 * bars.len(),
        title
    );
    for (number, (name, microseconds)) in bars.iter().enumerate() {
        let y = 44 + 34 * number;
        let width = 360.0 * microseconds / longest;
        svg += &format!(
            concat!(
                "<text x=\"16\" y=\"{}\">{}</text>",
                "<rect x=\"170\" y=\"{}\" width=\"{:.0}\" height=\"22\" fill=\"#4a6fa5\"/>",
                "<text x=\"{:.0}\" y=\"{}\">{:.2}</text>\n"
            ),
            y + 16,
            name,
            y,
            width,
            width + 178.0,
            y + 16,
            microseconds
        );
    }
    svg + "</svg>\n"
}

/// The time of one put in microseconds.
fn fill(root: &Path, objects: u64, bytes: usize) -> f64 {
    let store = Store::open(root).unwrap();
    let (mut putting, mut longest) = (Duration::ZERO, Duration::ZERO);
    for number in 0..objects {
        let content = content(number, bytes);
        let begin = Instant::now();
        black_box(store.put(&content).unwrap());
        let took = begin.elapsed();
        putting += took;
        longest = longest.max(took);
    }
    let begin = Instant::now();
    store.sync().unwrap();
    let syncing = begin.elapsed();
    let rate = objects as f64 / putting.as_secs_f64();
    let all = (objects * bytes as u64) as f64 / 1e6 / (putting + syncing).as_secs_f64();
    println!("put                     {rate:.0} a second, longest {longest:.1?}");
    println!("sync at the end         {syncing:.1?}; with it {all:.0} MB a second");
    let begin = Instant::now();
    store.close().unwrap();
    println!("close                   {:.1?}", begin.elapsed());
    1e6 / rate
}

fn open_after_clean_close(root: &Path) {
    let mut times: Vec<Duration> = (0..5)
        .map(|_| {
            let begin = Instant::now();
            let store = Store::open(root).unwrap();
            let took = begin.elapsed();
            assert!(store.recovery().is_clean(), "{:?}", store.recovery());
            took
        })
        .collect();
    times.sort_unstable();
    println!("open after clean close  {:.2?} (median of 5)", times[2]);
}

fn read(root: &Path) {
    let before = anonymous_bytes();
    let store = Options::new().read_only(true).open(root).unwrap();
    let begin = Instant::now();
    // An absent object makes every segment check its index and set up its lookup table.
    assert!(store.get(&Digest::of(b"absent")).unwrap().is_none());
    println!("first get, absent       {:.2?}", begin.elapsed());
    match (before, anonymous_bytes()) {
        (Some(before), Some(after)) => println!(
            "heap                    {:.2} bytes an object",
            after.saturating_sub(before) as f64 / store.len() as f64
        ),
        _ => println!("heap                    not measured on this system"),
    }
    let digests = digests(root);
    hash_hot_buffer(&store, &digests[0]);
    // One pass over everything, so that all pages are mapped and all indexes checked.
    for digest in &digests {
        black_box(store.get(digest).unwrap().unwrap());
    }
    let mut random = SmallRng::seed_from_u64(7);
    let mut times: Vec<f64> = (0..5)
        .map(|_| {
            // Picked beforehand: who asks has the digest at hand.
            let mut pick = || digests[random.random_range(0..digests.len())];
            let asked: Vec<Digest> = (0..LOOKUPS / 5).map(|_| pick()).collect();
            let begin = Instant::now();
            for digest in &asked {
                black_box(store.get(digest).unwrap().unwrap());
            }
            begin.elapsed().as_secs_f64() * 1e6 / (LOOKUPS / 5) as f64
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    println!(
        "verified random get     {:.2} us (median of 5, {:.2} to {:.2})",
        times[2], times[0], times[4]
    );
}

/// What a verified read cannot do without.
fn hash_hot_buffer(store: &Store, digest: &Digest) {
    let content = store.get(digest).unwrap().unwrap().to_vec();
    let begin = Instant::now();
    for _ in 0..LOOKUPS / 10 {
        black_box(Digest::of(black_box(&content)));
    }
    let microseconds = begin.elapsed().as_secs_f64() * 1e6 / (LOOKUPS / 10) as f64;
    println!("hash of a hot buffer    {microseconds:.2} us");
}

/// Taken from the sidecars without the store, which so has nothing in memory yet.
fn digests(root: &Path) -> Vec<Digest> {
    let mut digests = Vec::new();
    for file in std::fs::read_dir(root.join("segments")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "idx") {
            let index = Index::parse(std::fs::read(path).unwrap()).unwrap();
            digests.extend(index.entries().map(|entry| entry.digest));
        }
    }
    digests
}

/// `RssAnon`: memory of this process that no file backs.
fn anonymous_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn disk(root: &Path, content_bytes: u64) {
    let files = std::fs::read_dir(root.join("segments")).unwrap();
    let bytes: u64 = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    println!(
        "disk                    {:.4} bytes a byte stored",
        bytes as f64 / content_bytes as f64
    );
}

/// A child fills most of a segment, syncs part of it and is killed.
fn open_after_kill(root: &Path) {
    let mut command = child(KILL_IN_CHILD, root);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let begin = Instant::now();
    let store = Store::open(root).unwrap();
    let took = begin.elapsed();
    println!("open after kill -9      {took:.1?}; {}", line.trim());
    for repair in &store.recovery().repairs {
        println!("                        {repair}");
    }
}

fn fill_until_killed(root: &Path) {
    let store = Store::open(root).unwrap();
    let put = |range: std::ops::Range<u64>| {
        for number in range {
            store.put(&content((1 << 40) + number, 1024)).unwrap();
        }
    };
    put(0..190_000);
    store.sync().unwrap();
    put(190_000..200_000);
    println!("a segment of 200,000 x 1 KiB was synced up to 190,000");
    std::thread::sleep(Duration::from_secs(60));
}
