-- A store as version 0.1.0 made it, with four commits. The hashes come from a program that knows the serialisation alone.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1347310675;
PRAGMA user_version = 1;
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    key_kind TEXT NOT NULL,
    revision INTEGER NOT NULL,
    hash BLOB NOT NULL,
    keys INTEGER NOT NULL,
    digest BLOB NOT NULL,
    opened_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE entries (
    key TEXT PRIMARY KEY,
    route TEXT NOT NULL,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE commits (
    revision INTEGER PRIMARY KEY,
    time_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    about INTEGER,
    actor TEXT NOT NULL,
    reason TEXT,
    idempotency TEXT,
    forced INTEGER NOT NULL,
    confirm_by_ms INTEGER,
    gate TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE changes (
    revision INTEGER NOT NULL,
    place INTEGER NOT NULL,
    key TEXT NOT NULL,
    before TEXT,
    after TEXT,
    undoes INTEGER,
    PRIMARY KEY (revision, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX changes_by_key ON changes (key, revision);
CREATE TABLE idempotency (
    name TEXT PRIMARY KEY,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE pending (
    revision INTEGER PRIMARY KEY,
    confirm_by_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE receipts (
    revision INTEGER PRIMARY KEY,
    receipt TEXT NOT NULL
) STRICT;
INSERT INTO commits VALUES (1, 1760000000000, 'set', NULL, 'anna', 'release 12', 'ci-1', 0, NULL, '["127.0.0.1:8083 answered 200"]', x'0000000000000000000000000000000000000000000000000000000000000000', x'cc8f8fdb040bfdcf9017af8772768c613798a5981972d7829aadd3093bbf5579');
INSERT INTO changes VALUES (1, 0, 'shop.example.com', NULL, 'green', NULL);
INSERT INTO changes VALUES (1, 1, '*.example.org', NULL, 'green=10 blue=90', NULL);
INSERT INTO idempotency VALUES ('ci-1', 1);
INSERT INTO commits VALUES (2, 1760000005000, 'set', NULL, 'ben', NULL, NULL, 1, NULL, '[]', x'cc8f8fdb040bfdcf9017af8772768c613798a5981972d7829aadd3093bbf5579', x'3e298683c21118c70f5420dfe093686e2e4312b828408d6c1e574ffb31b2a1f5');
INSERT INTO changes VALUES (2, 0, 'shop.example.com', 'green', 'blue', NULL);
INSERT INTO commits VALUES (3, 1760000009000, 'undo', 2, 'anna', 'it was Ben''s mistake', 'ci-2', 0, NULL, '[]', x'3e298683c21118c70f5420dfe093686e2e4312b828408d6c1e574ffb31b2a1f5', x'dba603bd272b9371f02de702388bf00a63df0012beacd72b85f5af28bd4826d1');
INSERT INTO changes VALUES (3, 0, 'shop.example.com', 'blue', 'green', 2);
INSERT INTO idempotency VALUES ('ci-2', 3);
INSERT INTO commits VALUES (4, 1760000009500, 'set', NULL, 'anna', NULL, NULL, 0, 1760000600000, '[]', x'dba603bd272b9371f02de702388bf00a63df0012beacd72b85f5af28bd4826d1', x'd71a350fc1e9a2f78e00ff33e18f7db33531b2b994a1f6d51ec9096d24b56d08');
INSERT INTO changes VALUES (4, 0, 'pay.example.com', NULL, 'green', NULL);
INSERT INTO pending VALUES (4, 1760000600000);
INSERT INTO entries VALUES ('shop.example.com', 'green', 3);
INSERT INTO entries VALUES ('*.example.org', 'green=10 blue=90', 1);
INSERT INTO entries VALUES ('pay.example.com', 'green', 4);
INSERT INTO receipts VALUES (1, '{}');
INSERT INTO head VALUES (1, 'host', 4, x'd71a350fc1e9a2f78e00ff33e18f7db33531b2b994a1f6d51ec9096d24b56d08', 3, x'417b70f54e2955b5e983a1759026860a', 1760000000000);
