-- What came and what became of it. Rows are added, never changed, never deleted; the triggers see to it.

-- One a call, as it arrives.
CREATE TABLE calls (
  call     INTEGER PRIMARY KEY,
  at_us    INTEGER NOT NULL,
  kind     TEXT NOT NULL,
  -- Limited calls under way, with this one.
  at_once  INTEGER NOT NULL,
  -- If it came while a wait stood: microseconds since that was told.
  early_us INTEGER
) STRICT;
CREATE INDEX calls_by_time ON calls (at_us);

-- One a call that was answered, or cut on purpose (then without a status, unless it was cut in the middle).
CREATE TABLE answers (
  call      INTEGER PRIMARY KEY,
  at_us     INTEGER NOT NULL,
  status    INTEGER,
  why       TEXT,
  cut       TEXT,
  bytes_in  INTEGER NOT NULL,
  bytes_out INTEGER NOT NULL
) STRICT;

-- One a create call whose orders were read, in the transaction of its creates.
CREATE TABLE batches (
  call     INTEGER PRIMARY KEY,
  at_us    INTEGER NOT NULL,
  orders   INTEGER NOT NULL,
  created  INTEGER NOT NULL,
  existing INTEGER NOT NULL,
  invalid  INTEGER NOT NULL,
  later    INTEGER NOT NULL,
  accepted INTEGER NOT NULL,
  replayed INTEGER NOT NULL
) STRICT;

-- One a create. An identity that is here twice is a double.
CREATE TABLE creates (
  seq         INTEGER PRIMARY KEY,
  call        INTEGER NOT NULL,
  at_us       INTEGER NOT NULL,
  -- When the order exists: later than at_us where it was only accepted.
  exists_us   INTEGER NOT NULL,
  identity    TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  id          TEXT NOT NULL,
  ticket      TEXT,
  grand_total TEXT NOT NULL,
  currency    TEXT NOT NULL
) STRICT;
CREATE INDEX creates_by_identity ON creates (identity, seq);
CREATE INDEX creates_by_time ON creates (at_us);

-- One a token.
CREATE TABLE tokens (
  call  INTEGER PRIMARY KEY,
  at_us INTEGER NOT NULL
) STRICT;

-- The first answer under an idempotency key.
CREATE TABLE first_answers (
  key      TEXT PRIMARY KEY,
  body     INTEGER NOT NULL,
  outcomes TEXT NOT NULL
) STRICT;

-- One a write of a record; the last one counts.
CREATE TABLE records (
  call INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  body TEXT NOT NULL
) STRICT;
CREATE INDEX records_by_name ON records (name, call);
