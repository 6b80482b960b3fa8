//! The help texts of stores in an object store.

pub const PUSH: &str = "\
Uploads what the ref does not hold yet, and then makes the ref list what the
store holds, at once. Everything is checked on the way: a store with a damaged
object is not pushed. A push that was interrupted is gone on with by the next.

URL is s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, az://CONTAINER/FOLDER or
file:///FOLDER. Credentials come from the environment, such as
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION; AWS_ENDPOINT is the
address of another server that speaks S3.

A ref belongs to the store that pushed to it last. A push of another store, or
of an older backup of this one, is refused with exit code 4. With --take-over
the ref lists this store instead, and the other one is refused from then on.
Everything is uploaded again then, so --take-over also mends a ref of which
something is damaged or missing.

Examples:
  sealstone --store /srv/objects push s3://backups/objects
  sealstone --store /srv/objects push s3://backups --ref laptop

JSON:
  {\"ref\": \"main\", \"number\": 7, \"segments\": 3, \"uploaded_segments\": 1,
   \"uploaded_bytes\": 4096}
`number` counts the states of the ref.";

pub const PULL: &str = "\
Makes a store of what the ref lists. DIR does not exist, is empty, or holds a
part of what the ref lists and nothing else: an interrupted pull, or an older
state of the ref. Then only what is missing is downloaded. Anything else is
refused. Everything is checked before it counts; until then, opening the store
is an error that says what is missing.

Examples:
  sealstone pull s3://backups/objects /srv/objects
  sealstone pull s3://backups /srv/laptop --ref laptop

JSON:
  {\"ref\": \"main\", \"number\": 7, \"segments\": 3, \"downloaded_segments\": 3,
   \"downloaded_bytes\": 4096}
`number` counts the states of the ref.";

pub const REMOTE: &str = "\
Examples:
  sealstone remote ls s3://backups
  sealstone remote get s3://backups 6f3a.. -o report.pdf
  sealstone remote verify s3://backups --ref laptop
  sealstone remote gc s3://backups --dry-run

JSON:
The help of each command shows it.";

pub const REMOTE_LS: &str = "\
Example:
  sealstone remote ls s3://backups

JSON, a line for each ref:
  {\"ref\": \"main\", \"number\": 7, \"epoch\": 1, \"hash_function\": \"blake2b\",
   \"segments\": 3, \"objects\": 9, \"data_bytes\": 4096, \"problem\": null}
`number` counts the states of the ref, and `epoch` how often another store took
it over, from 1. If a ref cannot be read, its figures are 0, `problem` is
{\"object\": \"..\", \"reason\": \"..\"}, and the exit code is 3.";

pub const REMOTE_GET: &str = "\
Downloads the index of the ref and the object, and nothing else. The content is
checked against its digest before a byte of it is written. With --cache, index
and content are kept in DIR, so that later calls download only what is new.
Without it they go to a temporary folder.

Examples:
  sealstone remote get s3://backups 6f3a.. > report.pdf
  sealstone remote get s3://backups 6f3a.. --cache /var/cache/backups -o a.pdf

JSON with -o FILE; without it standard output carries the content:
  {\"digest\": \"6f3a..\", \"bytes\": 12, \"file\": \"report.pdf\"}";

pub const REMOTE_VERIFY: &str = "\
Downloads everything and keeps nothing. Ends with 3 if there is a problem.

Example:
  sealstone remote verify s3://backups

JSON:
  {\"ref\": \"main\", \"clean\": false, \"number\": 7, \"objects\": 9,
   \"problems\": [{\"object\": \"..\", \"reason\": \"..\"}]}
`objects` are those in sound files, and `object` is the URL of a file.";

pub const REMOTE_GC: &str = "\
Removes the files that only states need which a newer state replaced longer ago
than the grace period, and those that interrupted pushes have left behind. The
newest state of each ref is always kept, and pushes and pulls may go on
meanwhile. A pull of a state that was replaced needs its files for as long as it
takes, so the grace period should be longer.

Examples:
  sealstone remote gc s3://backups --dry-run
  sealstone remote gc s3://backups --grace 168

JSON:
  {\"dry_run\": false, \"refs\": 1, \"files\": 2, \"bytes\": 4096, \"manifests\": 5}
`files` were removed, or would be, and `manifests` emptied.";
