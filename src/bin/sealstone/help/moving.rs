//! The help of the commands that move objects between stores.

pub const EXPORT: &str = "\
Writes every object to standard output, in the order of the store's files. Each
is checked against its digest before a byte of it is written. A damaged object
or index is named, everything else is written, and the exit code is 3. `import`
reads the stream. Standard output cannot be a terminal.

The list of --except has a digest of 64 digits a line; blank lines, lines that
begin with `#`, and whatever follows the digest are ignored, so the output of
`ls` and `put` will do, also that of --json. Digests that the store does not
hold are no error. All of the list is read before the stream begins.

The stream has a head (`sealstrm`, the version 1 in 4 bytes, the name of the
hash function in 16 bytes, filled up with zeros), a record for each object (`R`,
32 bytes of digest, the length in 4 bytes, the content) and an end (`E`, the
number of records and the length of all contents, each in 8 bytes). Numbers are
little-endian.

Examples:
  sealstone --store /srv/objects export > objects.stream
  sealstone export | ssh backup sealstone --store /srv/copy import -
  ssh backup sealstone --store /srv/copy ls | sealstone export --except - |
    ssh backup sealstone --store /srv/copy import -

JSON, the summary as the last line of standard error:
  {\"objects\": 9, \"bytes\": 4096, \"left_out\": 2, \"damaged\": 0}
`objects` counts the objects of the stream, and `bytes` their content. With
--quiet the summary is printed only if an object is damaged.";

pub const IMPORT_USAGE: &str = "\
sealstone import [OPTIONS] <SOURCE>
       sealstone import nedb [OPTIONS] <DIR>";

pub const IMPORT: &str = "\
SOURCE is a stream that `export` has written, in a file or on standard input, or
the folder of another store. A store that does not exist is created, with the
hash function of SOURCE; another hash function than that of the store is
refused.

Each object is checked against its digest before it is stored. All are durable
when the summary counts them, at the end. If a stream is cut, all records that
came whole are kept, and the exit code is 4. If a record does not have its
digest, or the stream is damaged in another way, what came before is kept, and
the exit code is 3. Importing the whole stream again completes the store.

From another store the command reads only the objects that this store lacks, and
it does not change the other store. It names a damaged object, stores the others,
and ends with the exit code 3. An object that this store holds damaged counts as
stored; a stream of it, or `put` of its file, repairs it.

Examples:
  sealstone --store /srv/copy import objects.stream
  sealstone --store /srv/copy import /srv/objects
  sealstone export | ssh backup sealstone --store /srv/copy import -

JSON, the summary as the last line of standard error:
  {\"objects\": 9, \"bytes\": 4096, \"new\": 7, \"already_stored\": 2,
   \"damaged\": 0, \"failed\": 0, \"other_files\": 0, \"removed\": 0,
   \"complete\": true}
`objects` counts the objects of SOURCE that are stored now, and `bytes` their
content. `damaged` counts the damaged objects of another store, and its damaged
indexes. Only `import nedb` counts `failed`, `other_files` and `removed`; its
--help says more. `complete` is false if an error ended the command early. With --quiet
the summary is printed only if the exit code is not 0.";

pub const IMPORT_NEDB: &str = "\
NEDB keeps an object in DIR/<2 digits>/<62 digits>, the digest of the bytes of
the file. The store has to have the default hash function, as a store that is
created has. The store can be in DIR itself.

A file whose bytes have another digest is named and left, and the exit code is
3. A file that cannot be read or removed is named, and the exit code is 4. Other
files and symbolic links are left alone and counted. With --remove, a file is
removed after its object was synced, and only then; folders stay.

Examples:
  sealstone --store db/objects import nedb db/objects
  sealstone --store /srv/objects import nedb --remove db/objects

JSON, the summary as the last line of standard error:
  {\"objects\": 9, \"bytes\": 4096, \"new\": 7, \"already_stored\": 2,
   \"damaged\": 0, \"failed\": 0, \"other_files\": 1, \"removed\": 9,
   \"complete\": true}
`objects` counts the files whose objects are stored now, `damaged` those with
another digest, and `failed` those that were not read or not removed. `complete`
is false if an error ended the command early. With --quiet the summary is
printed only if the exit code is not 0.";

pub const DIFF: &str = "\
Prints `< DIGEST` for each object that only the store holds, and then `> DIGEST`
for each that only OTHER holds, both in the order of the files. The exit code is
0 if the stores hold the same objects, and 1 if not. This compares indexes and
reads no content; use `verify` for that. Both stores have to have the same hash
function.

`import OTHER` stores the objects of the lines that begin with >.

Examples:
  sealstone --store /srv/objects diff /mnt/backup/objects
  if sealstone diff /mnt/backup/objects > /dev/null; then echo complete; fi

JSON, an object a line; `only_in` is store or other:
  {\"digest\": \"6f3a..\", \"only_in\": \"store\"}";
