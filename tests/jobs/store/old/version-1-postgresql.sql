CREATE TABLE schema_version (
  version SERIAL NOT NULL,
  PRIMARY KEY (version)
);
CREATE TABLE sweeps (
  id VARCHAR(32) NOT NULL,
  name VARCHAR NOT NULL,
  state VARCHAR(16) NOT NULL,
  spec JSON NOT NULL,
  max_trials INTEGER NOT NULL,
  entry VARCHAR NOT NULL,
  bundle_key VARCHAR NOT NULL,
  bundle_sha256 VARCHAR(64) NOT NULL,
  engine VARCHAR(16) NOT NULL,
  source JSON NOT NULL,
  message TEXT NOT NULL,
  created_at FLOAT NOT NULL,
  finished_at FLOAT,
  PRIMARY KEY (id)
);
CREATE INDEX sweeps_by_name ON sweeps (name, created_at);
CREATE TABLE logs (
  id BIGSERIAL NOT NULL,
  sweep VARCHAR(32) NOT NULL,
  trial INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  at FLOAT NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX logs_by_trial ON logs (sweep, trial, id);
CREATE TABLE journal (
  id BIGSERIAL NOT NULL,
  sweep VARCHAR(32) NOT NULL,
  trial INTEGER,
  attempt INTEGER,
  at FLOAT NOT NULL,
  event VARCHAR(32) NOT NULL,
  state VARCHAR(16),
  reason TEXT NOT NULL,
  PRIMARY KEY (id)
);
CREATE INDEX journal_by_sweep ON journal (sweep, id);
CREATE TABLE workers (
  id VARCHAR NOT NULL,
  facts JSON NOT NULL,
  seen_at FLOAT NOT NULL,
  PRIMARY KEY (id)
);
CREATE TABLE trials (
  sweep VARCHAR(32) NOT NULL,
  number INTEGER NOT NULL,
  state VARCHAR(16) NOT NULL,
  params JSON NOT NULL,
  seed INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  pack_limit INTEGER,
  asked VARCHAR(16),
  lease_until FLOAT,
  worker VARCHAR,
  hinted_at FLOAT,
  value FLOAT,
  best_epoch INTEGER,
  epochs INTEGER NOT NULL,
  metrics JSON NOT NULL,
  failure_class VARCHAR(16),
  failure_message TEXT,
  digest VARCHAR(64),
  facts JSON NOT NULL,
  created_at FLOAT NOT NULL,
  started_at FLOAT,
  finished_at FLOAT,
  PRIMARY KEY (sweep, number),
  FOREIGN KEY(sweep) REFERENCES sweeps (id)
);
CREATE INDEX trials_by_value ON trials (sweep, value);
CREATE INDEX trials_by_state ON trials (sweep, state);
CREATE INDEX trials_by_lease ON trials (state, lease_until);
CREATE TABLE decisions (
  sweep VARCHAR(32) NOT NULL,
  key VARCHAR NOT NULL,
  value JSON NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (sweep, key),
  FOREIGN KEY(sweep) REFERENCES sweeps (id)
);
CREATE TABLE attempts (
  sweep VARCHAR(32) NOT NULL,
  trial INTEGER NOT NULL,
  number INTEGER NOT NULL,
  worker VARCHAR NOT NULL,
  started_at FLOAT NOT NULL,
  ended_at FLOAT,
  outcome VARCHAR(32),
  message TEXT,
  PRIMARY KEY (sweep, trial, number),
  FOREIGN KEY(sweep, trial) REFERENCES trials (sweep, number)
);
CREATE TABLE epochs (
  sweep VARCHAR(32) NOT NULL,
  trial INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  metrics JSON NOT NULL,
  seconds FLOAT NOT NULL,
  at FLOAT NOT NULL,
  PRIMARY KEY (sweep, trial, epoch),
  FOREIGN KEY(sweep, trial) REFERENCES trials (sweep, number)
);
CREATE TABLE artifacts (
  key VARCHAR NOT NULL,
  kind VARCHAR(16) NOT NULL,
  sweep VARCHAR(32) NOT NULL,
  trial INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  sha256 VARCHAR(64) NOT NULL,
  bytes BIGINT NOT NULL,
  created_at FLOAT NOT NULL,
  PRIMARY KEY (key),
  FOREIGN KEY(sweep, trial) REFERENCES trials (sweep, number)
);
CREATE INDEX artifacts_by_trial ON artifacts (sweep, trial, kind, epoch);
