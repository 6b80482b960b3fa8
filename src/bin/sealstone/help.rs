//! The parts of the help texts that clap must leave as they are: examples, JSON, exit codes.

pub const ABOUT: &str = "\
A content-addressed object store: every object is kept once, under the BLAKE2b digest of its \
content, and checked against it whenever it is read.";

pub const SEALSTONE: &str = "\
Examples:
  export SEALSTONE_STORE=/srv/objects
  sealstone put -r photos > photos.list
  sealstone get 6f3a21 -o holiday.jpg
  sealstone compact --live photos.list

Exit codes:
  0  everything was done
  1  an object was not found
  2  the command line, or the list given to `compact`, is wrong; nothing was done
  3  damaged data was met
  4  the store is locked by another writer or is not there, a file could not be read or written

Where the file of a segment is missing, every command ends with 3, and with --allow-missing-segments
it goes on: objects that only that segment holds are not found, and `put` stores them anew. Each time
the segment is named on standard error; `verify` ends with 3 for as long as it is missing.

Standard output carries the answer only; notes, progress and errors go to standard error.
`get`, `has`, `ls`, `stat` and plain `verify` change nothing: they work beside a running writer and
on a read-only file system.";

pub const PUT: &str = "\
Prints `DIGEST  PATH` for each file, as b2sum does. The digest is the first 64 digits that b2sum
prints. A name that contains a backslash, a line feed or a carriage return is escaped as b2sum
escapes it, and its line begins with a backslash.

Lines appear while the work goes on, after a sync for each 1024 files or 32 MiB: a line that is
printed says that from then on every process can read the object, and that it survives a power
failure. That holds whatever the exit code is. A file that cannot be read is named and the others are
stored; the exit code is 4 then. Any other error, such as a full disk, ends the command: the summary
then says that it was stopped, and for how many files lines were printed. What has no line may be
stored or not; putting it again is safe. If the reader of standard output goes away, storing goes on.

With -r the entries of a folder are taken in the order of their names. Symbolic links, devices,
pipes, sockets and the store's own files are skipped and named; a symbolic link on the command line
is followed. The store is created if it does not exist. A file may have at most 4294967295 bytes.

Examples:
  sealstone --store /srv/objects put report.pdf
  sealstone --store /srv/objects put -r photos > photos.list
  tar c src | sealstone --store /srv/objects put -

JSON, an object a line, and the summary as the last line of standard error:
  {\"digest\": \"6f3a..\", \"path\": \"a.txt\", \"bytes\": 12, \"new\": true}
  {\"files\": 9, \"bytes\": 4096, \"new\": 7, \"already_stored\": 2, \"failed\": 0, \"skipped\": 0,
   \"complete\": true}
`files` are those with a line; `complete` is false if an error ended the command before all were tried.
Bytes of a path that are not UTF-8 appear as U+FFFD.";

pub const GET: &str = "\
The content is checked against its digest before a byte of it is written.

A regular file given with -o is replaced as a whole by a new one, which gets its mode; other hard
links keep the old content. A symbolic link stays, and the file that it leads to is replaced; a link
that leads nowhere is refused, as by cp. Devices, pipes, and what a process has open (/dev/stdout,
/dev/fd/3, /proc/self/fd/3) are written to, behind what they hold.

Examples:
  sealstone --store /srv/objects get 6f3a21 > report.pdf
  sealstone --store /srv/objects get 6f3a21 -o report.pdf

JSON, only with -o, because standard output otherwise carries the content:
  {\"digest\": \"6f3a..\", \"bytes\": 12, \"file\": \"report.pdf\"}";

pub const HAS: &str = "\
Prints `DIGEST  yes` or `DIGEST  no` for each; the exit code is 1 if any is missing. This is a
look-up: the contents are not read, `verify` does that.

Examples:
  sealstone --store /srv/objects has 6f3a21 99b0c4
  if sealstone --store /srv/objects has -q \"$digest\"; then echo stored; fi

JSON; `digest` is what was asked for if nothing was found:
  [{\"digest\": \"6f3a..\", \"present\": true}, {\"digest\": \"99b0c4\", \"present\": false}]";

pub const LS: &str = "\
The order is that of the files of the store. The exit code is 1 if a PREFIX matches nothing.

Examples:
  sealstone --store /srv/objects ls
  sealstone --store /srv/objects ls --long 6f

JSON; `bytes` only with --long:
  [{\"digest\": \"6f3a..\", \"bytes\": 12}]";

pub const STAT: &str = "\
Examples:
  sealstone --store /srv/objects stat
  sealstone --store /srv/objects stat --segments

JSON, always with the segments:
  {\"objects\": 9, \"content_bytes\": 4096, \"data_file_bytes\": 4132, \"index_file_bytes\": 440,
   \"files\": 4, \"torn_files\": 0, \"torn_file_bytes\": 0, \"uncovered_segments\": 0,
   \"segments\": [{\"id\": 0, \"state\": \"sealed\", \"objects\": 9, \"data_bytes\": 4132,
                 \"index_bytes\": 440}]}";

pub const VERIFY: &str = "\
Prints a line for each damaged copy of an object, with its segment and the offset of its content
there, and for each other problem. The exit code is 3 if there are any. Storing the original file
again with `put` repairs an object; `compact` then drops the damaged copy. What is reported with
--repair is what is left.

What a crash left half-written was cut off and saved beside the segment as `seg-N.torn`; `stat` counts
these files. With --repair, --remove-torn removes them unless there is damage; JSON then has
`torn_files_removed`.

Examples:
  sealstone --store /srv/objects verify
  sealstone --store /srv/objects verify --repair
  sealstone --store /srv/objects verify --repair --remove-torn

JSON; `lost` counts the objects of which no copy is whole:
  {\"clean\": false, \"lost\": 1, \"objects\": 9, \"bytes\": 4096, \"cancelled\": false,
   \"corrupt\": [{\"digest\": \"6f3a..\", \"segment\": 0, \"offset\": 4, \"len\": 12}],
   \"problems\": [{\"segment\": 0, \"what\": \"..\"}]}";

pub const COMPACT: &str = "\
The list has a digest of 64 digits a line. Blank lines, lines that begin with `#`, and whatever
follows the digest are ignored, so the output of `put` and `ls` will do. If any line is wrong, or has
several digests, nothing is done and the exit code is 2. So it is if the store does not hold every
digest of the list, unless --allow-unknown is given. A list without a digest, or of which the store
holds none, is refused with that, too: to drop every object, pass --drop-everything instead of a list.

An object that is stored after the list was made is not in the list and is
dropped: make the list and compact while nothing else writes. --dry-run drops nothing and refuses
what a real run refuses, but it locks the store as well, and it may seal the segment that is being
written. It copies nothing, so only a real run meets a damaged object or a disk without room for the
copies; the store is as it was then.

Examples:
  sealstone --store /srv/objects compact --live photos.list --dry-run
  cat *.list | sealstone --store /srv/objects compact --live -

JSON:
  {\"dry_run\": false, \"live_objects\": 7, \"dropped_objects\": 2, \"live_missing\": 0,
   \"bytes_before\": 9000, \"bytes_after\": 7000, \"bytes_reclaimed\": 2000,
   \"segments_before\": 2, \"segments_after\": 1}";
