-- The call store's tables, as numbered steps, each with what it changes. A store keeps the number of its last step as its
-- user_version: a new store takes all steps, an older one takes those that it lacks. Stores made before there were
-- versions have number 0 and the tables of step 1. To change the tables, add a step and never edit one.
-- Statements end with a semicolon, and no comment may hold one.

-- step 1: replies, bills and the account
CREATE TABLE IF NOT EXISTS calls (key TEXT PRIMARY KEY, status TEXT, text TEXT, error TEXT, prompt_tokens INTEGER,
    completion_tokens INTEGER, reasoning_tokens INTEGER, model TEXT, sent TEXT, stored_at REAL);
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT, prompt_tokens INTEGER, completion_tokens INTEGER);
CREATE TABLE IF NOT EXISTS owners (owner TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS batches (token TEXT PRIMARY KEY, owner TEXT, batch_id TEXT);
CREATE TABLE IF NOT EXISTS bills (label TEXT, calls INTEGER, basis TEXT, expected_prompt INTEGER,
    expected_completion INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER);
CREATE TABLE IF NOT EXISTS ledger (id INTEGER PRIMARY KEY CHECK (id = 1), prompt_tokens INTEGER,
    completion_tokens INTEGER, reasoning_tokens INTEGER);
INSERT OR IGNORE INTO ledger VALUES (1, 0, 0, 0);
PRAGMA user_version = 1;

-- step 2: one process asks, so calls in flight are rows of one table
ALTER TABLE ledger RENAME TO account;
CREATE TABLE pending (key TEXT PRIMARY KEY, family TEXT, token TEXT, batch_id TEXT, bill INTEGER,
    prompt_tokens INTEGER, completion_tokens INTEGER);
INSERT INTO pending SELECT key, NULL, token, batch_id, NULL, prompt_tokens, completion_tokens
    FROM claims LEFT JOIN batches ON token = claims.owner;
DROP TABLE claims;
DROP TABLE owners;
DROP TABLE batches;
PRAGMA user_version = 2;

-- step 3: whole replies serve other token limits (max_tokens is 0 where there was none, family NULL in older replies)
ALTER TABLE calls ADD COLUMN family TEXT;
ALTER TABLE calls ADD COLUMN max_tokens INTEGER;
CREATE INDEX families ON calls (family);
PRAGMA user_version = 3;

-- step 4: bills are kept from the start of a map
ALTER TABLE bills ADD COLUMN planned INTEGER;
PRAGMA user_version = 4;

-- step 5: what a model of an endpoint does not take, by its name in `request.PARTS`, and whose bill it is
CREATE TABLE learned (url TEXT, model TEXT, part TEXT, PRIMARY KEY (url, model, part));
ALTER TABLE bills ADD COLUMN model TEXT;
PRAGMA user_version = 5;
