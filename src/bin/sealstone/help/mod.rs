//! The parts of the help texts that clap prints unchanged: examples, JSON and exit codes.

mod moving;
#[cfg(feature = "remote")]
mod remote;

pub use moving::*;
#[cfg(feature = "remote")]
pub use remote::*;

pub const SHORT_ABOUT: &str = "Keep objects by the digests of their contents";

pub const ABOUT: &str = "\
A content-addressed object store. It keeps each object once, under the digest of its content \
(BLAKE2b, or SHA-256 or BLAKE3), and checks the content against the digest whenever it reads it.";

pub const SEALSTONE: &str = "\
Examples:
  export SEALSTONE_STORE=/srv/objects
  sealstone put -r photos > photos.list
  sealstone get 6f3a21 -o holiday.jpg
  sealstone check --quiet photos.list
  sealstone compact --live photos.list

Exit codes:
  0  everything was done
  1  an object was not found, or `diff` found a difference
  2  the command line or a list is wrong; nothing was done, but `get -`,
     `has -` and `ls -` have answered the lines before the wrong one
  3  damaged data was met, or `check` found a file that was changed
  4  the store is locked by another writer or is not there, a file could
     not be read or written, a stream was cut, or an object store refused

If the data file of a segment is missing, every command ends with 3. With
--allow-missing-segments a command goes on and names the segment on standard
error: the objects that only this segment holds are not found, and `put` stores
them anew. `verify` ends with 3 for as long as the segment is missing.

Standard output carries only the answer; notes, progress and errors go to
standard error. If the reader of standard output goes away, as in `sealstone ls
| head`, that is no error. An answer that cannot be printed for another reason
is an error: the exit code is 4.

With --json, each line of standard error is an object: an error, a note, or the
summary that `put`, `check`, `export` and `import` print last:
  {\"error\": \"..\", \"exit_code\": 4}
  {\"note\": \"..\"}
`exit_code` is the code that the command ends with unless there is another
error.

`get`, `has`, `ls`, `stat`, `export`, `diff`, and `verify` without --repair
change nothing: they work beside a running writer and on a read-only file
system.";

pub const PUT: &str = "\
Prints `DIGEST  PATH` for each file, as b2sum does. The digest is the first 64
digits of the digest that b2sum prints; in a store that was created with --hash,
it is what `b2sum -l 256`, `sha256sum` or `b3sum` prints. A store keeps its hash
function. A name that contains a backslash, a line feed or a carriage return is
escaped as b2sum escapes it, and its line begins with a backslash. On a
terminal, other control characters are shown by their numbers.

Lines appear while the work goes on, after a sync for each 1024 files or 32 MiB.
A printed line says that every process can read the object from now on, and that
it survives a power failure, whatever the exit code is. A file that cannot be
read is named, the others are stored, and the exit code is 4. Any other error,
such as a full disk, ends the command: the summary then says that it was
stopped, and for how many files a line was printed. A file without a line may be
stored or not; putting it again is safe. If the reader of standard output goes
away, storing goes on.

With -r the entries of a folder are taken in the order of their names. Symbolic
links are skipped and counted; devices, pipes, sockets and the store's own files
are skipped and named. With --follow, links are followed, a link that leads
nowhere is a file that cannot be read, and a link to a folder that contains it
is skipped and named. A symbolic link on the command line is followed in any
case. A file may have at most 4294967295 bytes.

If the store does not exist, it is created when the first file has been read,
and a note on standard error says so. If no file can be read, no store is
created.

Examples:
  sealstone --store /srv/objects put report.pdf
  sealstone --store /srv/objects put -r photos > photos.list
  tar c src | sealstone --store /srv/objects put -
  sealstone --store /srv/blobs put --hash sha256 layer.tar

JSON, an object a line, and the summary as the last line of standard error:
  {\"digest\": \"6f3a..\", \"path\": \"a.txt\", \"bytes\": 12, \"new\": true}
  {\"files\": 9, \"bytes\": 4096, \"new\": 7, \"already_stored\": 2, \"failed\": 0,
   \"skipped\": 0, \"complete\": true}
`files` counts the files with a line, and `bytes` their content. `complete` is
false if an error ended the command before it had tried every file. With --quiet
the summary is printed only if a file was not stored. Bytes of a path that are
not UTF-8 appear as U+FFFD.";

pub const GET: &str = "\
The content is checked against its digest before a byte of it is written.

With `-`, standard input has a digest of 64 digits at the beginning of each
line, as the lines of `put` and `ls` do, also those of --json; what follows it,
blank lines and lines that begin with # are ignored. Each is answered as `git
cat-file --batch` does: `DIGEST BYTES`, a line feed, the content, a line feed.
For an object that is missing or damaged the answer is `DIGEST missing` or
`DIGEST damaged` and a line feed; the others follow, and the exit code is 1, or
3 if one was damaged. Answers are written before the command waits for another
line, so a program can ask, read the answer, and ask again. A wrong line ends
the command with the exit code 2.

With -o, a regular file is replaced as a whole by a new file, which gets its
mode; other hard links keep the old content. A symbolic link stays, and the file
that it leads to is replaced. A link that leads nowhere is refused, as by cp. A
device, a pipe, or a file that a process has open (/dev/stdout, /dev/fd/3,
/proc/self/fd/3) is written to, behind what it holds.

Examples:
  sealstone --store /srv/objects get 6f3a21 > report.pdf
  sealstone --store /srv/objects get 6f3a21 -o report.pdf
  sealstone --store /srv/objects get --json - < photos.list

JSON with -o FILE; without it standard output carries the content:
  {\"digest\": \"6f3a..\", \"bytes\": 12, \"file\": \"report.pdf\"}
`digest` has all 64 digits, `bytes` is the length of the content, and `file` is
the name given to -o. Bytes of a name that are not UTF-8 appear as U+FFFD.

JSON of `get -`, an object a line:
  {\"digest\": \"6f3a..\", \"result\": \"ok\", \"bytes\": 5, \"content\": \"aGVsbG8=\"}
  {\"digest\": \"99b0..\", \"result\": \"missing\", \"bytes\": null, \"content\": null}
`result` is ok, missing or damaged, and `content` is in base64, with padding.";

pub const HAS: &str = "\
Prints `DIGEST  yes` or `DIGEST  no` for each; the exit code is 1 if any object
is missing. This looks an object up and does not read its content; use `verify`
for that.

With `-`, standard input has a digest of 64 digits at the beginning of each
line, as the lines of `put` and `ls` do, also those of --json; what follows it,
blank lines and lines that begin with # are ignored. Answers are printed before
the command waits for another line. A wrong line ends it with the exit code 2.

Examples:
  sealstone --store /srv/objects has 6f3a21 99b0c4
  if sealstone --store /srv/objects has -q \"$digest\"; then echo stored; fi
  sealstone --store /srv/objects has - < photos.list | grep ' no$'

JSON, an object a line:
  {\"digest\": \"6f3a..\", \"present\": true}
  {\"digest\": \"99b0c4\", \"present\": false}
`digest` has all 64 digits if the object was found; otherwise it repeats the
argument.";

pub const LS: &str = "\
The digests come in the order of the store's files. The exit code is 1 if no
digest begins with PREFIX. The sizes with --long come from the indexes; no
content is read, use `verify` for that.

With `-`, the command reads digests from standard input as `has -` does, and
prints `DIGEST  BYTES` for each, or `DIGEST  missing`; the exit code is 1 if any
object is missing.

Examples:
  sealstone --store /srv/objects ls
  sealstone --store /srv/objects ls --long 6f
  sealstone --store /srv/objects ls - < photos.list

JSON, an object a line; `bytes` only with --long:
  {\"digest\": \"6f3a..\", \"bytes\": 12}

JSON of `ls -`, an object a line:
  {\"digest\": \"6f3a..\", \"bytes\": 12}
  {\"digest\": \"99b0..\", \"bytes\": null}";

pub const STAT: &str = "\
Prints the number of objects, the bytes of their content, and the bytes of the
data files, of their index files, and of the runs of the set index, which covers
many segments at a time. `files` counts these three kinds. `uncovered` counts
the sealed segments that no run covers yet; a look-up asks them one by one.
`torn` appears if bytes were cut off after a crash; `verify --help` says more.
`foreign` appears if there are other files beside the data files; they are left
alone, and `verify` names them.

--segments shows how full each segment is, as a picture and in percent of 256
MiB, at which `put` begins a new one. An application can choose another size.
The picture has block characters, or # where the locale is not UTF-8.

Examples:
  sealstone --store /srv/objects stat
  sealstone --store /srv/objects stat --segments

JSON, always with the segments:
  {\"hash_function\": \"blake2b\", \"objects\": 9, \"content_bytes\": 4096,
   \"data_file_bytes\": 4132, \"index_file_bytes\": 440,
   \"set_index_file_bytes\": 0, \"files\": 2, \"torn_files\": 0, \"torn_file_bytes\": 0,
   \"foreign_files\": 0, \"set_index_runs\": 0, \"uncovered_segments\": 1,
   \"segment_bytes_max\": 268435456,
   \"segments\": [{\"id\": 0, \"state\": \"sealed\", \"objects\": 9, \"data_bytes\": 4132,
                 \"index_bytes\": 440}]}
`segment_bytes_max` is where `put` begins a new segment. `state` is active,
sealing or sealed; `index_bytes` is 0 unless the segment is sealed.";

pub const VERIFY: &str = "\
Prints a line for each damaged copy of an object, with its segment and the
offset of its content in the data file of that segment, and a line for each
other problem. The exit code is 3 if there are any. `put` of the original file
repairs an object, and `compact` then drops the damaged copy. With --repair,
only what is left after the repair is printed.

With --repair, damaged indexes are made again from the data, damaged journals
and manifests from the files that are there, and files that an interrupted
command has left are removed. Two kinds of files stay, because they could have
what is nowhere else: after a crash the half-written end of a segment is cut off
and saved beside it as `seg-N.torn`, and a damaged manifest is kept beside the
new one. --remove-leftovers removes them if there is no damage, but none that
the same run has made: look first whether all objects are there that you expect.
A file that is not the store's is named and never touched.

Examples:
  sealstone --store /srv/objects verify
  sealstone --store /srv/objects verify --repair
  sealstone --store /srv/objects verify --repair --remove-leftovers

JSON:
  {\"clean\": false, \"lost\": 1, \"objects\": 9, \"bytes\": 4096, \"cancelled\": false,
   \"corrupt\": [{\"digest\": \"6f3a..\", \"segment\": 0, \"offset\": 4, \"len\": 12}],
   \"problems\": [{\"segment\": 0, \"run\": null, \"what\": \"..\",
     \"kind\": {\"DamagedSidecar\": {\"segment\": 0, \"reason\": \"..\"}}}],
   \"leftovers\": [{\"path\": \"/srv/objects/segments/MANIFEST.damaged\",
     \"what\": \"..\", \"kind\": {\"DamagedManifest\": {\"path\": \"..\"}}}]}
`objects` counts the copies that were checked, and `bytes` their content. `lost`
counts the objects of which no copy is whole. `offset` and `len` are in bytes. A
problem of the set index has the number of its `run`, and `segment` is null if
the problem belongs to no segment. `leftovers` are files that the store does not
need: they are no problem, and the exit code does not count them. `kind` has the
name of a problem or leftover, and its fields; `what` says the same in words.
`leftovers_removed` counts the files that --remove-leftovers removed, and is
there only if it was given and found no damage.";

pub const COMPACT: &str = "\
The list has a digest of 64 digits a line. Blank lines, lines that begin with
`#`, and whatever follows the digest are ignored, so the output of `put` and
`ls` will do, also that of --json: an object a line, with a field `digest`. If a
line is wrong or has several digests, nothing is done and the exit code is 2. The same holds if the store does not hold every digest of the
list, unless --allow-unknown is given. A list without a digest, or with none
that the store holds, is refused even then: to drop every object, pass
--drop-everything instead of a list.

An object that is stored after the list was made is not in the list and is
dropped: make the list and compact while nothing else writes. --dry-run drops
nothing and refuses what a real run refuses, but it locks the store as well, and
it may seal the segment that is being written. It copies nothing, so only a real
run meets a damaged object or a disk without room for the copies; such a run
leaves the store as it was.

Examples:
  sealstone --store /srv/objects compact --live photos.list --dry-run
  cat *.list | sealstone --store /srv/objects compact --live -

JSON:
  {\"dry_run\": false, \"live_objects\": 7, \"dropped_objects\": 2, \"live_missing\": 0,
   \"bytes_before\": 9000, \"bytes_after\": 7000, \"bytes_reclaimed\": 2000,
   \"segments_before\": 2, \"segments_after\": 1}
`live_missing` counts the digests of the list that the store does not hold.
`bytes_reclaimed` is negative if the store grew.";

pub const CHECK: &str = "\
Reads each file of the list, and prints `PATH: OK`, `PATH: FAILED` if the
content has another digest, or `PATH: FAILED open or read`, as `sha256sum -c`
does. A relative name starts from the working directory. The exit code is 3 if a
file failed, otherwise 4 if one could not be read. If a line of the list is
wrong, nothing is checked and the exit code is 2; blank lines and lines that
begin with `#` are ignored.

No store is needed. If one is named, its hash function is used unless --hash is
given, and nothing else of it is read.

`b2sum -c` cannot check the lines of a store with the default function, because
they have half of the digits that b2sum prints. The lines of a store that was
created with --hash blake2b-256 or sha256 can be checked without this program,
by `b2sum -c` or `sha256sum -c`.

Examples:
  sealstone check photos.list
  sealstone check --quiet --hash sha256 layers.list
  sealstone --store /srv/objects put -r photos | ssh backup sealstone check -

JSON, an object a file, and the summary as the last line of standard error:
  {\"digest\": \"6f3a..\", \"path\": \"a.txt\", \"result\": \"ok\"}
  {\"files\": 9, \"ok\": 9, \"failed\": 0, \"unreadable\": 0}
`digest` is that of the list, and `result` is ok, failed or unreadable. Bytes of
a path that are not UTF-8 appear as U+FFFD.";

pub const CHECKPOINT: &str = "\
The new store has its files in DIR and is used like any other. Its files are
hard links to those of this store, so it costs no space and next to no time; on
another file system they are copied. From then on the two stores change
independently of each other. But a file with two names is one file: damage to it
is damage to both stores, so a checkpoint replaces no backup on another disk.

The command locks the store as a writer does, and seals the segment that is
being written. If it is interrupted, DIR can hold a part of a store, whose
opening reports missing segments: remove DIR before you try again.

Examples:
  sealstone --store /srv/objects checkpoint /srv/objects.monday
  sealstone --store /srv/objects checkpoint /mnt/disk/objects

JSON:
  {\"checkpoint\": \"/srv/objects.monday\", \"objects\": 9, \"content_bytes\": 4096}
`checkpoint` is the name that was given, and `content_bytes` the length of the
content of all objects. Bytes of a name that are not UTF-8 appear as U+FFFD.";

pub const COMPLETIONS: &str = "\
Where a shell looks for the script depends on the system. After an update of
this program print it again.

Examples:
  sealstone completions bash > /usr/share/bash-completion/completions/sealstone
  sealstone completions zsh > ~/.zfunc/_sealstone
  sealstone completions fish > ~/.config/fish/completions/sealstone.fish";

pub const MAN: &str = "\
The page of the program names every command, and the page of a command has what
its --help prints.

Examples:
  sealstone man | man -l -
  sealstone man > /usr/local/share/man/man1/sealstone.1
  sealstone man put > /usr/local/share/man/man1/sealstone-put.1";
